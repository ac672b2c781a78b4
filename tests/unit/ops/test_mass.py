"""Attention mass recomputed from lse equals the dense softmax."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import mass
from keyvalise.ops.fast import choose
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_entries, make_geometry, make_piece, random


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namesakes are torch's."""
    monkeypatch.setattr(choose, "_forced", lambda: False)


def by_ordinal(history: History, sums: torch.Tensor) -> torch.Tensor:
    """Column sums [B, Hq, N] per column → mean over the group, per ordinal, zero beyond the row's end."""
    grouped = sums.unflatten(1, (history.geometry.n_kv_heads, -1)).mean(2)
    return history.compact(grouped)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("counts", [(63,), (63, 20, 1)])
@pytest.mark.parametrize("block", [2**26, 4 * 63 * 6 * 11])
def test_column_sums_equal_dense_attention(
    softcap: float | None, counts: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass, "BLOCK_BYTES", block)
    history = History.of(make_geometry(softcap=softcap), counts)
    got = mass.column_sums(history.geometry, history.piece(), history.entries())
    assert_close(got, by_ordinal(history, history.attention().sum(2)), "score_fp32")


def test_column_sums_of_a_later_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass, "BLOCK_BYTES", 4 * 63 * 6 * 5)
    history = History.of(make_geometry(), (63, 20))
    got = mass.column_sums(history.geometry, history.piece(50, 61), history.entries(61))
    want = by_ordinal(history, history.attention()[:, :, 50:61].sum(2))
    assert_close(got, want[..., :61], "score_fp32")


def test_nothing_to_read_has_no_mass() -> None:
    history = History.of(make_geometry(), (7,))
    piece = make_piece(history.q, lse=torch.full((1, 6, 7), -torch.inf))
    assert_same(mass.column_sums(history.geometry, piece, history.entries()), torch.zeros(1, 2, 7))


def test_log_weights_count() -> None:
    geometry, keys, q = make_geometry(), random(1, 2, 7, 10), random(1, 6, 1, 10, seed=1)
    twice = make_entries(torch.cat([keys, keys[:, :, 6:]], 2))
    weights = torch.zeros(1, 2, 7)
    weights[..., 6] = torch.tensor(2.0).log()
    once = make_entries(keys, logw=weights)
    last = torch.tensor([[100]])
    want = mass.window_mass(geometry, q, last, twice)
    got = mass.window_mass(geometry, q, last, once)
    assert_close(got[..., 6], want[..., 6:].sum(-1), "score_fp32")
    assert_close(got[..., :6], want[..., :6], "score_fp32")
    lse = torch.logsumexp((mass.logits(q, keys, geometry) + weights[:, :, None, None]).flatten(1, 2), -1)
    sums = mass.column_sums(geometry, make_piece(q, (100,), lse), once)
    assert_close(sums, got.unflatten(1, (2, 3)).mean(2), "score_fp32")


def test_queries_that_see_only_what_weighs_nothing_are_left_out() -> None:
    geometry, keys, q = make_geometry(), random(1, 2, 7, 10), random(1, 6, 2, 10, seed=1)
    weights = torch.zeros(1, 2, 7)
    weights[..., :3] = -torch.inf
    got = mass.window_mass(geometry, q, torch.tensor([[2, 6]]), make_entries(keys, logw=weights))
    assert_close(
        got,
        mass.window_mass(geometry, q[:, :, 1:], torch.tensor([[6]]), make_entries(keys, logw=weights)),
        "score_fp32",
    )
    assert got.isfinite().all() and not got[..., :3].any()


def test_window_in_blocks_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History.of(make_geometry(), (63,))
    args = (history.geometry, history.q[:, :, -7:], torch.arange(56, 63)[None], history.entries())
    whole = mass.window_mass(*args)
    monkeypatch.setattr(mass, "WINDOW_BYTES", 1)
    assert_same(mass.window_mass(*args), whole)
