"""Attention of near queries: dense sums in a band, in any pieces, for means and maxima of a group."""

from __future__ import annotations

import math

import pytest
import torch

from keyvalise.ops import mass, near
from keyvalise.ops.heads import How
from tests.support.compare import assert_close
from tests.unit.builders import History, make_entries, make_geometry, make_piece, random

WIDTH = torch.tensor([9, 4])


def dense(history: History, how: How) -> tuple[torch.Tensor, torch.Tensor]:
    grouped = history.attention().unflatten(1, (history.geometry.n_kv_heads, -1))
    shares = grouped.mean(2) if how == "mean" else grouped.amax(2)
    places = torch.arange(shares.shape[-1])
    band = (places[:, None] - places)[None] < WIDTH[:, None, None]
    return tuple(history.compact(x.sum(2)) for x in (shares, shares * band[:, None]))  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("cut", [0, 31, 62])
def test_two_pieces_equal_dense_sums(cut: int, how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass, "BLOCK_BYTES", 4096)
    history = History.of(make_geometry(softcap=3.0), (63, 20))
    found = [torch.zeros(2, 2, 63) for _ in range(2)]
    for begin, end in ((0, cut), (cut, 63)):
        if begin < end:
            held = history.entries(end)
            new = near.column_sums(history.geometry, history.piece(begin, end), held, WIDTH, how)
            for total, part in zip(found, new, strict=True):
                total[..., : part.shape[-1]] += part
    for got, want in zip(found, dense(history, how), strict=True):
        assert_close(got, want, "score_fp32")


def test_weights_count_and_dead_slots_are_zero() -> None:
    keys, q = random(1, 2, 9, 10), random(1, 6, 1, 10, seed=1)
    held = make_entries(keys, lengths=[[9, 5]], logw=torch.full((1, 2, 9), 0.7))
    plain = make_entries(keys, lengths=[[9, 5]])
    piece, geometry = make_piece(q, (100,), torch.zeros(1, 6, 1)), make_geometry()
    found = near.column_sums(geometry, piece, held, torch.tensor([1000]))
    other = near.column_sums(geometry, piece, plain, torch.tensor([1000]))
    for got, want in zip(found, other, strict=True):
        assert bool(got.isfinite().all()) and not got[0, 1, 5:].any()
        assert_close(got, want * math.exp(0.7), "score_fp32")
    assert not near.column_sums(geometry, piece, held, torch.tensor([92]))[1][..., :8].any()
