"""Attention mass on a device against its namesakes in `ops.mass`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import mass as plain
from keyvalise.ops.fast import choose
from keyvalise.ops.fast.gpu import mass, sizes
from keyvalise.types.data import Entries, Piece
from tests.differential.test_gpu_start import DEVICES, ready
from tests.support.compare import assert_close, assert_same
from tests.support.pieces import any_piece
from tests.unit.builders import History, make_entries, make_geometry, make_piece, random

on_each = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namesakes are torch's."""
    monkeypatch.setattr(choose, "_forced", lambda: False)


def moved(entries: Entries, to: torch.device, dtype: torch.dtype = torch.float32) -> Entries:
    """The same entries elsewhere, their dead slots still NaN."""
    keys = entries.keys().to(to, dtype)
    logw = None if entries.logw is None else entries.logw.to(to)
    return Entries(
        entries.lengths.to(to),
        entries.live.to(to),
        entries.ordinals.to(to),
        logw,
        {},
        lambda: keys,
        lambda: keys,
    )


def placed(piece: Piece, to: torch.device, dtype: torch.dtype = torch.float32) -> Piece:
    """The same queries elsewhere."""
    lse = piece.lse.to(to)
    return Piece(
        piece.q.to(to, dtype), piece.k, piece.v, piece.stretch, piece.is_prompt, find_lse=lambda: lse
    )


@on_each
@pytest.mark.parametrize(
    ("group", "counts", "softcap"),
    [(1, (63,), None), (2, (63, 20, 1), 1.5), (4, (130, 7), None), (3, (7,), 1.5)],
)
def test_a_whole_prompt(device: str, group: int, counts: tuple[int, ...], softcap: float | None) -> None:
    to = ready(device)
    history = History.of(make_geometry(query_heads=2 * group, softcap=softcap), counts)
    geometry, piece, entries = history.geometry, history.piece(), history.entries()
    want = plain.column_sums(geometry, piece, entries)
    assert_close(mass.column_sums(geometry, placed(piece, to), moved(entries, to)), want, "score_fp32")


@on_each
@pytest.mark.parametrize("cut", [(50, 61), (62, 63)])
def test_a_later_piece(device: str, cut: tuple[int, int]) -> None:
    to = ready(device)
    history = History.of(make_geometry(), (63, 63))
    piece, entries = history.piece(*cut), history.entries(cut[1])
    want = plain.column_sums(history.geometry, piece, entries)
    assert_close(
        mass.column_sums(history.geometry, placed(piece, to), moved(entries, to)), want, "score_fp32"
    )


@on_each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_numbers(device: str, dtype: torch.dtype) -> None:
    to = ready(device)
    history = History.of(make_geometry(dim=20), (70,))
    piece, held = history.piece(), history.entries()
    rounded = make_entries(held.keys().to(dtype).float())
    like = Piece(piece.q.to(dtype).float(), piece.k, piece.v, piece.stretch, find_lse=lambda: piece.lse)
    want = plain.column_sums(history.geometry, like, rounded)
    got = mass.column_sums(history.geometry, placed(like, to, dtype), moved(rounded, to, dtype))
    assert_close(got, want, "score_fp32")
    args = history.geometry, like.q[:, :, -7:], torch.arange(63, 70)[None], rounded
    got = mass.window_mass(args[0], args[1].to(to, dtype), args[2].to(to), moved(rounded, to, dtype))
    assert_close(got, plain.window_mass(*args), "score_fp32")


@on_each
@pytest.mark.parametrize(("n", "softcap"), [(1, None), (7, 1.5), (40, None)])
def test_a_window(device: str, n: int, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    to = ready(device)
    monkeypatch.setattr(sizes, "LEAST", 16)
    monkeypatch.setattr(sizes, "WAVES", 1000)
    geometry = make_geometry(query_heads=4, softcap=softcap)
    lengths = [[63, 20], [5, 63]]
    ordinals = torch.arange(63).expand(2, 2, 63) + torch.tensor([0, 7])[:, None, None]
    entries = make_entries(random(2, 2, 63, 10), lengths=lengths, ordinals=ordinals, logw=random(2, 2, 63))
    q, own = random(2, 4, n, 10, seed=1), torch.arange(63 - n, 63).expand(2, n).clone()
    own[1, : n // 2] = -1
    want = plain.window_mass(geometry, q, own, entries)
    given = geometry, q.to(to), own.to(to), moved(entries, to)
    got = mass.window_mass(*given)
    assert_close(got, want, "score_fp32")
    assert not got.cpu()[~entries.live.repeat_interleave(2, 1)].any()


@on_each
def test_a_window_whose_lse_is_known(device: str) -> None:
    to = ready(device)
    geometry, entries = make_geometry(), make_entries(random(1, 2, 63, 10))
    q, own = random(1, 6, 7, 10, seed=1), torch.arange(56, 63)[None]
    logits = plain.logits(q, entries.keys(), geometry).flatten(1, 2)
    hidden = torch.arange(63)[None] > own[0][:, None]
    lse = logits.masked_fill(hidden, -math.inf).logsumexp(-1)
    got = mass.window_mass(geometry, q.to(to), own.to(to), moved(entries, to), lse=lse.to(to))
    assert_close(got, plain.window_mass(geometry, q, own, entries), "score_fp32")
    less = mass.window_mass(geometry, q.to(to), own.to(to), moved(entries, to), lse=lse.to(to) + 1.0)
    assert_close(less, got / math.e, "score_fp32")


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_any_piece(data: st.DataObject) -> None:
    ready("cpu")
    geometry, piece, entries = any_piece(data)
    args = geometry, piece, entries
    assert_close(mass.column_sums(*args), plain.column_sums(*args), "score_fp32")
    asked = geometry, piece.q, piece.stretch.ordinals(), entries
    assert_close(mass.window_mass(*asked), plain.window_mass(*asked), "score_fp32")


@on_each
def test_nothing_to_read_has_no_mass(device: str) -> None:
    to = ready(device)
    geometry, q = make_geometry(), random(1, 6, 7, 10)
    entries = make_entries(random(1, 2, 63, 10))
    blind = make_piece(q.to(to), (56,), torch.full((1, 6, 7), -math.inf, device=to))
    zeros = torch.zeros(1, 2, 63)
    assert_same(mass.column_sums(geometry, blind, moved(entries, to)).cpu(), zeros)
    none = torch.full((1, 7), -1, device=to)
    assert_same(mass.window_mass(geometry, q.to(to), none, moved(entries, to)).cpu(), torch.zeros(1, 6, 63))
    empty = make_entries(random(1, 2, 0, 10))
    late = torch.full((1, 7), 9, device=to)
    assert mass.window_mass(geometry, q.to(to), late, moved(empty, to)).shape == (1, 6, 0)


@on_each
def test_queries_that_are_none_may_hold_anything(device: str) -> None:
    to = ready(device)
    geometry, entries = make_geometry(), make_entries(random(1, 2, 20, 10))
    q, own = random(1, 6, 7, 10, seed=1), torch.arange(13, 20)[None]
    own[:, :3] = -1
    want = plain.window_mass(geometry, q, own, entries)
    q[:, :, :3] = math.nan
    assert_close(mass.window_mass(geometry, q.to(to), own.to(to), moved(entries, to)), want, "score_fp32")
