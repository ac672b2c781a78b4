"""read_partition: what is read and what is not are all there is, nothing twice; reading all of it is full
attention.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from keyvalise import KVCache, Recipe
from keyvalise.store.indexed import Indexed
from keyvalise.types.quantity import Share
from keyvalise.types.retrieve import CHOICES
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close

LENGTHS, WIDTHS = (76, 50), (63, 1, 1, 1, 5, 1, 1, 3)


def both(case: Case) -> tuple[Recipe, Recipe]:
    """The same recipe with room to read all, and without a reader; so many tokens: readers cost bytes."""
    recipe = Recipe.parse(case.with_budget("30tok"))
    assert recipe.reader is not None
    read = replace(recipe.reader.read, amount=Share(100.0))
    return replace(recipe, reader=replace(recipe.reader, read=read)), replace(recipe, reader=None)


def test_reading_everything_is_full_attention(reading: Case) -> None:
    calls = drive.text(*LENGTHS).calls(*WIDTHS)
    everything, unread = both(reading)
    whole = drive.run(reading.model, KVCache(reading.model, unread), calls)
    cache = KVCache(reading.model, everything)
    read = drive.run(reading.model, cache, calls)
    assert any(indexed(cache)), "nothing was ever in units"
    for call, got, want in zip(calls, read.logits, whole.logits, strict=True):
        assert_close(got[call.real], want[call.real], reading.bound, what=reading.text)
    assert read.kept == whole.kept


def test_reading_little_is_not(reading: Case) -> None:
    calls = drive.text(*LENGTHS).calls(*WIDTHS)
    whole = drive.run(reading.model, KVCache(reading.model, replace(reading.recipe, reader=None)), calls)
    read = drive.run(reading.model, KVCache(reading.model, reading.text), calls)
    same = [
        torch.equal(got[c.real], want[c.real])
        for c, got, want in zip(calls, read.logits, whole.logits, strict=True)
    ]
    assert same[0] and not all(same)


def test_units_part_what_is_held(reading: Case) -> None:
    cache = KVCache(reading.model, reading.text)
    for call in drive.text(*LENGTHS).calls(*WIDTHS):
        drive.run(reading.model, cache, [call])
        for segment in indexed(cache):
            for block in segment.blocks:
                assert block.sizes.flatten(0, 1).sum(-1).tolist() == list(block.held.counts)
                assert int(block.sizes.min()) >= 0
            units = sum(block.n_units for block in segment.blocks)
            for name in segment.memo.keys() & {*CHOICES}:
                for row in segment.memo[name].flatten(0, 1).tolist():
                    chosen = [unit for unit in row if unit >= 0]
                    assert len(set(chosen)) == len(chosen) and max(chosen, default=0) < units
            if "estimate" in segment.memo:
                both = torch.cat([segment.memo["exact"], segment.memo["estimate"]], -1).flatten(0, 1)
                rows = [[unit for unit in row if unit >= 0] for row in both.tolist()]
                assert all(len(set(row)) == len(row) for row in rows)


def indexed(cache: KVCache) -> list[Indexed]:
    """The segments whose entries are in units."""
    memories = [layer.memory for layer in cache.shared.layers.values()]
    return [s for memory in memories if memory for s in memory.segments if isinstance(s, Indexed)]
