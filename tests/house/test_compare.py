"""The comparing helper notices what it is there to notice, and the table of tolerances is sound."""

from __future__ import annotations

import pytest
import torch

from tests.support.compare import assert_close, assert_same
from tests.support.tolerances import TOLERANCES, UNIT_ROUNDOFF, half_step, logits_share

WANT = torch.linspace(-2.0, 4.0, 63).reshape(7, 9)
NAN, INF = float("nan"), float("inf")


def test_equal_tensors_pass() -> None:
    assert_close(WANT.clone(), WANT, "exact")
    assert_same(WANT.clone(), WANT)


def test_the_bound_is_a_share_of_the_largest() -> None:
    share = TOLERANCES["logits_fp32"].share
    within, beyond = WANT.double(), WANT.double()
    within[3, 3] += 0.9 * share * 4.0
    beyond[3, 3] += 1.1 * share * 4.0
    assert_close(within, WANT, "logits_fp32")
    with pytest.raises(AssertionError, match=r"off by .* at \(3, 3\)"):
        assert_close(beyond, WANT, "logits_fp32")


@pytest.mark.parametrize(
    ("got", "word"),
    [
        (WANT[:6], "shape"),
        (WANT.clone().index_fill_(0, torch.tensor([2]), NAN), "NaN"),
        (WANT.clone().index_fill_(0, torch.tensor([2]), INF), "infinities"),
        (WANT + 1.0, "off by"),
        (-WANT, "off by"),
        (torch.zeros_like(WANT), "off by"),
    ],
)
@pytest.mark.parametrize("name", sorted(TOLERANCES))
def test_wrong_inputs_fail(got: torch.Tensor, word: str, name: str) -> None:
    with pytest.raises(AssertionError, match=word):
        assert_close(got, WANT, name)


def test_nan_is_never_equal_and_infinities_must_agree() -> None:
    broken = WANT.clone().fill_(NAN)
    with pytest.raises(AssertionError, match="NaN"):
        assert_close(broken, broken, "exact")
    empty = torch.full((7,), -INF)
    assert_close(empty, empty, "exact")
    with pytest.raises(AssertionError, match="infinities"):
        assert_close(-empty, empty, "exact")


def test_same_means_dtype_and_bits() -> None:
    with pytest.raises(AssertionError, match="dtype"):
        assert_same(WANT.double(), WANT)
    with pytest.raises(AssertionError, match="off by"):
        assert_same(torch.nextafter(WANT, torch.tensor(9.0)), WANT)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_unit_roundoff_bounds_one_rounding(name: str, dtype: torch.dtype) -> None:
    exact = torch.linspace(1.0, 8.0, 1301, dtype=torch.float64)
    error = ((exact.to(dtype).double() - exact) / exact).abs().max()
    assert 0.5 * UNIT_ROUNDOFF[name] < float(error) <= UNIT_ROUNDOFF[name]
    assert logits_share(name, 4) == 36 * UNIT_ROUNDOFF[name]


def test_half_a_step_bounds_rounding_to_levels() -> None:
    exact = torch.linspace(-1.0, 2.0, 1301, dtype=torch.float64)
    step = 3.0 / (2**4 - 1)
    coded = ((exact + 1.0) / step).round() * step - 1.0
    assert (
        0.99 * half_step(-1.0, 2.0, 4) < float((coded - exact).abs().max()) <= half_step(-1.0, 2.0, 4) + 1e-12
    )
