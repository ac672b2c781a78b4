"""Spans: columns turned into ordinals of every row, whenever they are marked, and of one cache alone."""

from __future__ import annotations

import pytest

from keyvalise import KVCache
from tests.support import drive
from tests.support.models import tiny

RECIPE = "plphp(only=document, window=5, rate=0.2, step=0.0) @ 45tok"


def outside(heads: list[list[int]], span: tuple[int, int]) -> list[list[int]]:
    return [[t for t in head if not span[0] <= t < span[1]] for head in heads]


@pytest.mark.parametrize("widths", [(70,), (30, 40), (10, 35, 25)])
def test_a_span_of_columns_in_padded_rows(widths: tuple[int, ...]) -> None:
    model, text = tiny("llama"), drive.text(72, 50)
    cache = KVCache(model, RECIPE)
    cache.prompt_ends(70)
    cache.span("document", 24, 60)
    kept = drive.run(model, cache, text.calls(*widths, 1, 1)).kept[-1]
    for row, pad in enumerate(text.pads):
        span = (24 - pad, 60 - pad)
        end = 72 - pad
        for rows in kept.values():
            assert outside(rows[row], span) == [[*range(span[0]), *range(span[1], end)]] * 4
            assert all(len(head) == end - 36 + 7 for head in rows[row])


def test_a_span_that_begins_in_the_padding() -> None:
    model, text = tiny("llama"), drive.text(70, 50)
    cache = KVCache(model, RECIPE)
    cache.span("document", 10, 60)
    (kept,) = drive.run(model, cache, text.calls(70)).kept
    for rows in kept.values():
        assert outside(rows[1], (0, 40)) == [[*range(40, 50)]] * 4


def test_a_fork_has_spans_of_its_own() -> None:
    cache = KVCache(tiny("llama"))
    twin = cache.fork()
    twin.span("turn", 3, 9)
    assert cache.shared.spans == {} and twin.shared.spans == {"turn": (3, 9)}


def test_the_ledger_says_where_more_is_outside_than_fits() -> None:
    model = tiny("llama")
    cache = KVCache(model, "plphp(only=document, window=5) @ 20tok")
    cache.span("document", 0, 40)
    drive.run(model, cache, drive.text(70).calls(70))
    (note,) = cache.ledger().notes
    assert "protects 30 tokens, the budget keeps 20: the first sinks stay, then the newest" in note
    roomy = KVCache(model, "plphp(only=document, window=5) @ 40tok")
    roomy.span("document", 0, 40)
    drive.run(model, roomy, drive.text(70).calls(70))
    assert roomy.ledger().notes == ()
