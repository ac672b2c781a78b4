"""Compiled attention mass against its namesakes in `ops.mass`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import mass as plain
from keyvalise.ops.fast import choose, legible, mass
from keyvalise.types.data import Entries
from tests.support.compare import assert_close, assert_same
from tests.support.decoding import DTYPES
from tests.support.pieces import any_piece
from tests.unit.builders import History, make_entries, make_geometry, make_piece, random

BLOCKS = [1, 4 * 63 * 6 * 11, 2**22]


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namesakes are torch's."""
    monkeypatch.setattr(choose, "_forced", lambda: False)


def held_as(entries: Entries, dtype: torch.dtype) -> Entries:
    """The same entries in another format, their dead slots still NaN."""
    keys = entries.keys().to(dtype)
    return Entries(
        entries.lengths, entries.live, entries.ordinals, entries.logw, {}, lambda: keys, lambda: keys
    )


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("group", "counts", "softcap"),
    [(1, (63,), None), (2, (63, 20, 1), 1.5), (4, (130, 7), None), (3, (7,), 1.5), (1, (1100,), None)],
)
def test_a_whole_prompt(
    group: int,
    counts: tuple[int, ...],
    softcap: float | None,
    dtype: torch.dtype,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mass, "BLOCK_BYTES", block)
    history = History.of(make_geometry(query_heads=2 * group, softcap=softcap), counts)
    args = history.geometry, history.piece(), held_as(history.entries(), dtype)
    assert_close(mass.column_sums(*args), plain.column_sums(*args), "score_fp32")


@pytest.mark.parametrize("cut", [(50, 61), (62, 63)])
def test_a_later_piece(cut: tuple[int, int]) -> None:
    history = History.of(make_geometry(), (63, 63))
    args = history.geometry, history.piece(*cut), history.entries(cut[1])
    assert_close(mass.column_sums(*args), plain.column_sums(*args), "score_fp32")


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("n", "softcap"), [(1, None), (7, 1.5), (40, None)])
def test_a_window(
    n: int, softcap: float | None, dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass, "BLOCK_BYTES", block)
    geometry = make_geometry(query_heads=4, softcap=softcap)
    lengths = [[63, 20], [5, 63]]
    ordinals = torch.arange(63).expand(2, 2, 63) + torch.tensor([0, 7])[:, None, None]
    entries = make_entries(random(2, 2, 63, 10), lengths=lengths, ordinals=ordinals, logw=random(2, 2, 63))
    q, own = random(2, 4, n, 10, seed=1), torch.arange(63 - n, 63).expand(2, n).clone()
    own[1, : n // 2] = -1
    args = geometry, q, own, held_as(entries, dtype)
    got = mass.window_mass(*args)
    assert_close(got, plain.window_mass(*args), "score_fp32")
    assert not got[~entries.live.repeat_interleave(2, 1)].any()


def test_a_window_of_large_logits() -> None:
    geometry, entries = make_geometry(), make_entries(100 * random(1, 2, 63, 10))
    q, own = 100 * random(1, 6, 7, 10, seed=1), torch.arange(56, 63)[None]
    args = geometry, q, own, entries
    assert_close(mass.window_mass(*args), plain.window_mass(*args), "score_fp32")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_piece(data: st.DataObject) -> None:
    geometry, piece, entries = any_piece(data)
    args = geometry, piece, entries
    assert_close(mass.column_sums(*args), plain.column_sums(*args), "score_fp32")
    asked = geometry, piece.q, piece.stretch.ordinals(), entries
    assert_close(mass.window_mass(*asked), plain.window_mass(*asked), "score_fp32")


def test_nothing_to_read_has_no_mass() -> None:
    geometry, q = make_geometry(), random(1, 6, 7, 10)
    entries = make_entries(random(1, 2, 63, 10))
    blind = make_piece(q, (56,), torch.full((1, 6, 7), -math.inf))
    assert_same(mass.column_sums(geometry, blind, entries), torch.zeros(1, 2, 63))
    none = torch.full((1, 7), -1)
    assert_same(mass.window_mass(geometry, q, none, entries), torch.zeros(1, 6, 63))
    empty = make_entries(random(1, 2, 0, 10))
    assert mass.window_mass(geometry, q, torch.full((1, 7), 9), empty).shape == (1, 6, 0)
    assert mass.column_sums(geometry, blind, empty).shape == (1, 2, 0)


def test_hidden_numbers_may_be_anything() -> None:
    geometry = make_geometry()
    q, own = random(1, 6, 7, 10, seed=1), torch.arange(13, 20)[None]
    own[:, :3] = -1
    keys = random(1, 2, 20, 10)
    want = mass.window_mass(geometry, q, own, make_entries(keys))
    q[:, :, :3] = math.nan
    assert_close(mass.window_mass(geometry, q, own, make_entries(keys)), want, "score_fp32")
    # Whoever sees no number has none.
    keys[:, :, 5] = math.nan
    assert mass.window_mass(geometry, q, own, make_entries(keys))[..., :13].isnan().all()


def test_two_threads_answer_like_one() -> None:
    geometry, entries = make_geometry(dim=64), make_entries(random(1, 2, 3000, 64))
    q, before = random(1, 6, 33, 64, seed=1), torch.get_num_threads()
    own = torch.arange(2967, 3000)[None]
    try:
        answers = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            answers.append(mass.window_mass(geometry, q, own, entries))
    finally:
        torch.set_num_threads(before)
    assert_close(answers[1], answers[0], "score_fp32")


def test_it_is_chosen_and_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, q = make_entries(random(1, 2, 63, 10)), random(1, 6, 7, 10)
    assert not mass.serves("sums", q, entries)
    monkeypatch.setattr(choose, "_forced", lambda: None)
    assert mass.serves("sums", q, entries) and not mass.serves("sums", q.double(), entries)
    assert not mass.serves("window", q, entries)
    assert mass.serves("window", q, make_entries(random(1, 2, 6300, 10)))
    assert not mass.serves("sums", q.clone().requires_grad_(), entries)
    with torch.no_grad():
        assert mass.serves("sums", q.clone().requires_grad_(), entries)
    monkeypatch.setattr(legible, "is_installed", lambda: False)
    assert not mass.serves("sums", q, entries)
