"""pieces: what observers remember does not depend on where a text was cut in halves."""

from __future__ import annotations

import pytest

from keyvalise import KVCache
from keyvalise.store import layer as store
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

PROMPT = 60


@pytest.mark.parametrize("cut", [1, 23, 59])
def test_two_halves_are_the_whole(raw_dropping: Case, cut: int) -> None:
    model, lengths = tiny("llama"), (PROMPT + 2, 40)
    calls = drive.text(*lengths).calls(PROMPT, 1, 1)
    halves = drive.text(*lengths).calls(cut, PROMPT - cut, 1, 1)
    one, two = (KVCache(model, raw_dropping.text) for _ in range(2))
    one.prompt_ends(PROMPT)
    two.prompt_ends(PROMPT)
    want, got = drive.run(model, one, calls), drive.run(model, two, halves)
    assert got.kept[1:] == want.kept
    for i in (1, 2):
        assert_close(got.logits[i + 1], want.logits[i], "logits_fp32", what=f"step {i}")
    for mine, theirs in zip(two.shared.layers.values(), one.shared.layers.values(), strict=True):
        assert mine.memory is not None and theirs.memory is not None
        assert mine.memory.stats.keys() == theirs.memory.stats.keys()
        assert (mine.memory.clock, mine.memory.prompt) == (theirs.memory.clock, theirs.memory.prompt)
        for name, stat in theirs.memory.stats.items():
            if stat.is_floating_point():
                assert_close(mine.memory.stats[name], stat, "score_fp32", what=name)


def test_observers_of_the_prompt_are_forgotten_after_it(raw_dropping: Case) -> None:
    model = tiny("llama")
    cache = KVCache(model, raw_dropping.text)
    drive.run(model, cache, drive.text(PROMPT).calls(PROMPT))
    fields = cache.ledger().by_field()
    reader = cache.recipe.reader
    stays = any(stage.decodes and stage.observers for stage in cache.recipe.stages)
    stays |= reader is not None and bool(reader.observers)
    assert ("stats" in fields or "columns" in fields) == stays
    assert not stays or store.tensors(cache.shared.layers[1].memory)
