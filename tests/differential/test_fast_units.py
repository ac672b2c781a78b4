"""Compiled asking and choosing of units against their namesakes in `ops.units`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import units
from keyvalise.ops.fast import choose, choosing, scan
from tests.support.decoding import DTYPES


@pytest.fixture
def plain(monkeypatch):
    """The definitions, whatever the table says."""
    monkeypatch.setattr(choose, "is_faster", lambda *_, **__: False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("group", "n", "dim"), [(1, 1, 8), (3, 77, 32), (4, 1500, 128), (2, 0, 16)])
def test_every_unit_is_asked(plain, dtype: torch.dtype, group: int, n: int, dim: int) -> None:
    torch.manual_seed(n)
    q, x = torch.randn(2, 3 * group, dim), torch.randn(2, 3, n + 2, dim).to(dtype)[:, :, 1 : n + 1]
    assert torch.allclose(scan.logits(q, x), units.logits(q, x), atol=1e-4)


def test_what_cannot_be_asked() -> None:
    x = torch.randn(1, 2, 9, 16)
    with pytest.raises(ValueError, match="multiples of 8"):
        scan.logits(torch.randn(1, 2, 12), x[..., :12])
    with pytest.raises(ValueError, match="do not fit vectors"):
        scan.logits(torch.randn(1, 3, 16), x)
    assert not scan.available(torch.randn(1, 2, 12), x[..., :12])


def chosen(ranking: Tensor, sizes: Tensor, *amounts: Tensor) -> list[Tensor]:
    return [found.clone() for found in choosing.within(ranking, sizes, amounts)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_same_units_are_chosen(data: st.DataObject) -> None:
    n_rows, n_lists, n = (
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(0, 60)),
    )
    numbers = st.sampled_from([-torch.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.0 + 2**-23, 7.0, torch.inf])
    count = n_rows * n_lists * n
    ranking = torch.tensor(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    sizes = torch.tensor(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    shape = (n_rows, n_lists, n)
    ranking, sizes = ranking.float().view(shape), sizes.int().view(shape)
    amounts = [
        torch.tensor(
            data.draw(st.lists(st.integers(0, 90), min_size=n_rows * n_lists, max_size=n_rows * n_lists))
        )
        .long()
        .view(n_rows, n_lists)
        for _ in range(data.draw(st.integers(1, 2)))
    ]
    got = chosen(ranking, sizes, *amounts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "is_faster", lambda *_, **__: False)
        want = units.within(ranking, sizes, *amounts)
    for mine, theirs in zip(got, want, strict=True):
        assert torch.equal(mine, theirs)


def test_many_units(plain) -> None:
    torch.manual_seed(0)
    ranking, sizes = torch.randn(2, 4, 9000), torch.randint(0, 40, (2, 4, 9000), dtype=torch.int32)
    amounts = [torch.full((2, 4), 3000), torch.full((2, 4), 40000)]
    for mine, theirs in zip(
        chosen(ranking, sizes, *amounts), units.within(ranking, sizes, *amounts), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("n", [0, 1, 77, 3000])
@pytest.mark.parametrize("group", [1, 3])
def test_the_same_votes_are_counted(plain, n: int, group: int) -> None:
    torch.manual_seed(n)
    logits, sizes = 9 * torch.randn(2, 3 * group, n), torch.randint(0, 3, (2, 3, n), dtype=torch.int32)
    sizes[1, 2] = 0
    logits = torch.where(units.of_heads(sizes, 3 * group) > 0, logits, torch.nan)
    want = units.votes(logits, sizes)
    got = choosing.votes(logits, sizes)
    assert torch.allclose(got, want, atol=1e-6) and got.isfinite().all()
