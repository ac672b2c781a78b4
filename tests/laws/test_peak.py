"""peak: while a prompt is read, no layer holds more than was promised, and one layer at a time is whole."""

from __future__ import annotations

from typing import Any

import pytest

from keyvalise import KVCache, flow
from keyvalise.store import layer as store
from keyvalise.store.arena import slack
from keyvalise.types.data import Memory, Piece
from tests.support import drive, walk
from tests.support.cases import Case
from tests.support.models import tiny

PROMPT, ENTRY = 240, 4 * 2 * 16 * 4
"""Tokens of the prompt, and bytes of one token of one layer."""


class Watch:
    """Bytes of every layer whenever a piece has been appended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.cache: KVCache | None = None
        self.layer: list[int] = []
        self.all: list[int] = []
        append = store.append

        def watched(memory: Memory, piece: Piece, *args: Any) -> Memory:
            grown = append(memory, piece, *args)
            assert self.cache is not None
            others = [own.memory for own in self.cache.shared.layers.values() if own.memory is not memory]
            fixed = walk.storages(self.cache.shared.fixed)
            for seen, held in ((self.layer, ()), (self.all, [m.segments for m in others if m])):
                found = walk.storages(grown.segments, *held)
                seen.append(sum(n for address, n in found.items() if address not in fixed))
            return grown

        monkeypatch.setattr(flow.layer, "append", watched)


@pytest.mark.parametrize("chunk", [16, pytest.param(50, marks=pytest.mark.slow)])
def test_a_chunked_prompt_needs_the_budget_and_a_chunk(
    dropping: Case, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not all(layer in stage.layers for stage in dropping.recipe.stages for layer in range(3)):
        return  # what is not decided on is whole
    watch, model = Watch(monkeypatch), tiny("llama")
    watch.cache = cache = KVCache(model, dropping.with_budget("30%"), prefill_chunk=chunk)
    cache.prompt_ends(PROMPT)
    drive.run(model, cache, drive.text(PROMPT).calls(PROMPT))
    share = 0.3 * PROMPT * ENTRY
    # A profile may give one layer most of what there is for all three.
    spread = 1 if dropping.is_even else 3
    room = spread * share + (chunk + slack(chunk + PROMPT * 3 // 10)) * ENTRY
    assert len(watch.layer) >= 3 * PROMPT // chunk
    assert max(watch.layer) <= room
    assert cache.nbytes <= 3 * share


def test_one_shot_only_one_layer_is_whole(dropping: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(layer in stage.layers for stage in dropping.recipe.stages for layer in range(3)):
        return
    watch, model = Watch(monkeypatch), tiny("llama")
    watch.cache = cache = KVCache(model, dropping.with_budget("20%"))
    drive.run(model, cache, drive.text(PROMPT).calls(PROMPT))
    whole = (PROMPT + slack(PROMPT)) * ENTRY
    assert max(watch.all) <= whole + 3 * 0.2 * PROMPT * ENTRY + 8 * 32 * 16 * 4
    assert len(watch.all) >= 3


def test_the_watch_sees_a_cache_that_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, model = Watch(monkeypatch), tiny("llama")
    watch.cache = KVCache(model)
    drive.run(model, watch.cache, drive.text(PROMPT).calls(PROMPT))
    assert max(watch.all) == 3 * (PROMPT + slack(PROMPT)) * ENTRY
