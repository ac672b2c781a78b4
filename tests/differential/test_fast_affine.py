"""Rows coded in one pass, against the plain way: the same bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import affine, pack
from keyvalise.ops.fast import affine as fast
from keyvalise.ops.fast import choose
from tests.support.decoding import DTYPES

ODD = (0.0, -0.0, 1e-7, -6e-8, 65504.0, -65519.0, 7e4, -1e9, torch.inf, -torch.inf, 1 / 3, 2.0**-14)


def both(x: Tensor, bits: int, channels: int, patch: pytest.MonkeyPatch) -> tuple[tuple[Tensor, Tensor], ...]:
    """(packed, parameters) in one pass, and by torch."""
    groups = affine.n_groups(x.shape[1], channels)
    ours = fast.encode_rows(x, bits, groups, pack.width(x.shape[1], bits))
    with patch.context() as never:
        never.setattr(fast, "serves", lambda x: False)
        return ours, affine.encode_rows(x, bits, channels)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_same_bits(data: st.DataObject) -> None:
    n, dim = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 70))
    bits, channels = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.integers(1, 80))
    dtype, scale = (
        data.draw(st.sampled_from(DTYPES)),
        data.draw(st.sampled_from([1e-6, 1e-3, 1.0, 300.0, 2e4])),
    )
    made = torch.Generator().manual_seed(n * dim)
    x = torch.randn(n, dim, generator=made) * scale + data.draw(st.sampled_from([0.0, -1.0, 30.0]))
    if data.draw(st.booleans()):
        x[torch.rand(n, dim, generator=made) < 0.1] = data.draw(st.sampled_from(ODD))
    if data.draw(st.booleans()):
        x[:: data.draw(st.integers(1, 3))] = data.draw(st.sampled_from(ODD))
    (ours, own), (packed, scales) = both(x.to(dtype), bits, channels, pytest.MonkeyPatch())
    assert torch.equal(own.view(torch.int16), scales.view(torch.int16))
    assert torch.equal(ours, packed)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_goes_to_even_codes(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(2.0 * (2**bits - 1) + 1)[None] / 2
    (ours, _), (packed, _) = both(x, bits, x.shape[1], monkeypatch)
    assert torch.equal(ours, packed)


def test_a_nan_spoils_its_group_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 32)
    x[1, 20] = torch.nan
    (packed, scales), (_, wanted) = both(x, 4, 16, monkeypatch)
    assert scales[1, 1].isnan().all() and wanted[1, 1].isnan().all()
    decoded = affine.decode_rows(packed, scales, 4, 32)
    assert decoded[1, 16:].isnan().all() and decoded.isnan().sum() == 16


def test_any_number_of_threads_finds_the_same_bits() -> None:
    x, before, found = torch.randn(9000, 64), torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            found.append(fast.encode_rows(x, 4, 2, 32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 8)
    assert fast.serves(x) and fast.serves(x.half())
    assert not any(fast.serves(one) for one in (x[:0], x.to("meta"), x.double()))
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert not fast.serves(x)
