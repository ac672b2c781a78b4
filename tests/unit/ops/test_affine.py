"""Rounding to even levels: within half a step, and a fixed point when done again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import affine, halves

BITS = (2, 4, 8)


def ulp(x: Tensor) -> Tensor:
    """The spacing of float16 around x, at most."""
    return (x.abs() * 2.0**-10).clamp(min=2.0**-24)


def bound(x: Tensor, step: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Largest error: half a step, or what rounding the parameters to float16 cuts off at either end.

    The offset is rounded up by at most one spacing, the step down by at most one, 2^bits − 1 times over.
    A constant group errs by its width, which lies below float16's resolution.
    """
    step, offset = step.float(), offset.float()
    levels = 2**bits - 1
    regular = torch.maximum(step / 2, levels * ulp(step)) + ulp(offset)
    constant = ulp(offset) + ulp(x) + levels * 2.0**-24
    return torch.where(step > 0, regular, constant) * (1 + 2.0**-8) + x.abs() * 2.0**-22


def coded(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """(decoded, step, offset) of groups along the last axis."""
    scales = affine.fit(x, bits)
    step, offset = scales[..., :1], scales[..., 1:]
    return affine.dequantize(affine.quantize(x, step, offset, bits), step, offset), step, offset


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 300.0, 2e4])
@pytest.mark.parametrize("shift", [0.0, -1.0, 30.0])
def test_errors_stay_below_the_derived_bound(bits: int, scale: float, shift: float) -> None:
    x = torch.randn(63, 33, generator=torch.Generator().manual_seed(bits)) * scale + shift
    x = x.clamp(-halves.LARGEST, halves.LARGEST)
    decoded, step, offset = coded(x, bits)
    assert ((decoded - x).abs() <= bound(x, step, offset, bits)).all()


@pytest.mark.parametrize("bits", BITS)
def test_ordinary_numbers_err_by_half_a_step(bits: int) -> None:
    x = torch.randn(63, 33, generator=torch.Generator().manual_seed(7))
    decoded, step, offset = coded(x, bits)
    inside = (x > offset.float()) & (x < offset.float() + (2**bits - 1) * step.float())
    assert inside.float().mean() > 0.9
    assert ((decoded - x).abs() <= step.float() / 2 * (1 + 1e-5))[inside].all()


@pytest.mark.parametrize("bits", BITS)
def test_the_ends_of_a_group_become_the_first_and_the_last_code(bits: int) -> None:
    x = torch.randn(63, 33, generator=torch.Generator().manual_seed(3)) * 5 + 2
    scales = affine.fit(x, bits)
    codes = affine.quantize(x, scales[..., :1], scales[..., 1:], bits)
    assert (codes.amin(-1) == 0).all() and (codes.amax(-1) == 2**bits - 1).all()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from(BITS),
    x=st.lists(
        st.lists(st.floats(-1e5, 1e5, width=32, allow_subnormal=False), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    scale=st.sampled_from([1e-9, 1e-4, 1.0]),
)
def test_encoding_what_was_decoded_changes_nothing(bits: int, x: list[list[float]], scale: float) -> None:
    once, step, offset = coded(torch.tensor(x) * scale, bits)
    twice, step_again, offset_again = coded(once, bits)
    assert torch.equal(once, twice)
    assert torch.equal(step, step_again) and torch.equal(offset, offset_again)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.14159, 1e-8, -1e-8, 6e4, 1e6, -1e6])
@pytest.mark.parametrize("bits", BITS)
def test_a_constant_group_has_step_zero(value: float, bits: int) -> None:
    decoded, step, _ = coded(torch.full((2, 7), value), bits)
    held = max(min(value, halves.LARGEST), -halves.LARGEST)
    assert (step == 0).all() and torch.isfinite(decoded).all()
    assert ((decoded - held).abs() <= ulp(torch.tensor(held))).all()


@pytest.mark.parametrize("bits", BITS)
def test_numbers_beyond_float16_are_written_as_its_largest(bits: int) -> None:
    decoded, step, offset = coded(torch.tensor([[-1e30, 0.0, 3.0, 1e30]]), bits)
    assert torch.isfinite(step).all() and torch.isfinite(offset).all()
    assert decoded[0, 0] == -halves.LARGEST
    assert abs(float(decoded[0, 3]) - halves.LARGEST) <= halves.LARGEST * (2**bits - 1) * 2.0**-10


@pytest.mark.parametrize(("dim", "channels", "groups"), [(63, 64, 1), (130, 64, 3), (80, 32, 3), (7, 1, 7)])
def test_rows_fall_into_groups_of_at_most_so_many_channels(dim: int, channels: int, groups: int) -> None:
    x = torch.randn(5, dim, generator=torch.Generator().manual_seed(dim))
    packed, scales = affine.encode_rows(x, 8, channels)
    assert scales.shape == (5, groups, 2) and affine.n_groups(dim, channels) == groups
    decoded = affine.decode_rows(packed, scales, 8, dim)
    assert decoded.shape == x.shape
    width = (x.amax(-1) - x.amin(-1))[:, None]
    assert ((decoded - x).abs() <= width / 255 * 0.6 + ulp(x.amin(-1))[:, None]).all()


def test_groups_do_not_see_each_other() -> None:
    x = torch.randn(5, 130, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[:, 100:] = 1000.0
    first, second = (affine.decode_rows(*affine.encode_rows(y, 2, 44), 2, 130) for y in (x, other))
    assert torch.equal(first[:, :88], second[:, :88])
