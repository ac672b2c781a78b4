"""chunk: cuts inside a forward do what the caller's own cuts do, and no layer holds more than it may."""

from __future__ import annotations

from typing import Any

import pytest

from keyvalise import KVCache, flow
from keyvalise.store import layer as store
from keyvalise.types.data import Memory, Piece
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close

TOTAL = 66
ALONE = ("knorm", "streaming", "random")
"""Recipes whose scores depend on nothing but the entry."""


def whole(case: Case, chunk: int, *lengths: int) -> drive.Trail:
    """One forward, cut inside."""
    model = case.model
    cache = KVCache(model, case.text, prefill_chunk=chunk)
    cache.prompt_ends(TOTAL)
    return drive.run(model, cache, drive.text(*(n + 3 for n in lengths)).calls(TOTAL, 1, 1, 1))


@pytest.mark.parametrize("chunk", [pytest.param(7, marks=pytest.mark.slow), 31])
def test_inner_cuts_equal_the_callers(case: Case, chunk: int) -> None:
    model = case.model
    widths = [min(chunk, TOTAL - begin) for begin in range(0, TOTAL, chunk)]
    cache = KVCache(model, case.text, prefill_chunk=chunk)
    cache.prompt_ends(TOTAL)
    want = drive.run(model, cache, drive.text(TOTAL + 3).calls(*widths, 1, 1, 1))
    got = whole(case, chunk, TOTAL)
    assert got.kept == want.kept[len(widths) - 1 :]
    begin = 0
    for i, width in enumerate(widths):
        assert_close(got.logits[0][:, begin : begin + width], want.logits[i], case.bound, what=f"piece {i}")
        begin += width
    for i in (1, 2, 3):
        assert_close(got.logits[i], want.logits[len(widths) + i - 1], case.bound, what=f"step {i}")


def test_padded_rows_are_cut_where_they_would_be_alone(case: Case) -> None:
    batch, lengths = whole(case, 13, TOTAL, 40), (TOTAL, 40)
    for row, n in enumerate(lengths):
        model = case.model
        cache = KVCache(model, case.text, prefill_chunk=13)
        cache.prompt_ends(n)
        text = drive.text(*(n + 3 for n in lengths)).row(row)
        alone = drive.run(model, cache, text.calls(n, 1, 1, 1))
        for i, logits in enumerate(alone.logits):
            assert_close(batch.logits[i][row, -logits.shape[1] :], logits[0], case.bound, what=f"{row}, {i}")
            assert all(batch.kept[i][layer][row] == rows[0] for layer, rows in alone.kept[i].items())


def test_scores_of_the_entry_alone_keep_what_the_whole_prompt_keeps(entry: Case) -> None:
    if entry.name not in ALONE:
        return
    model, calls = entry.model, drive.text(TOTAL).calls(TOTAL)
    want = drive.run(model, KVCache(model, entry.text), calls).kept[-1][0]
    for chunk in (1, 7, 64, TOTAL):
        assert whole(entry, chunk, TOTAL).kept[0][0] == want, f"chunks of {chunk}"


def test_never_more_than_the_budget_and_one_chunk(dropping: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, budget = 8, 13
    held: list[tuple[int, float]] = []
    append = store.append

    def watched(memory: Memory, piece: Piece, *args: Any) -> Memory:
        grown = append(memory, piece, *args)
        if piece.is_prompt:
            held.append((piece.stretch.width, sum(store.head_counts(grown)) / 4))
        return grown

    monkeypatch.setattr(flow.layer, "append", watched)
    case = Case(dropping.name, dropping.with_budget(f"{budget}tok"))
    layers = [i in case.recipe.stages[0].layers for i in range(3)]
    whole(case, chunk, TOTAL)
    assert len(held) >= 3 * TOTAL // chunk
    if case.is_even:
        limits = [budget if mine else TOTAL for mine in layers]
        assert all(n <= max(limits) + width for width, n in held)
