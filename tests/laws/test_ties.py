"""ties: of entries with equal scores the later one stays, whatever the recipe around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise import KVCache, Recipe
from keyvalise.types.code import Chained
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer
from tests.support import drive
from tests.support.cases import Case
from tests.support.models import tiny


@dataclass(frozen=True, slots=True)
class Indifferent:
    """A score that gives everything the same."""

    name: ClassVar[str] = "indifferent"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"scores:mass"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return Scores(torch.full(entries.live.shape, 0.25), "mass")


def test_the_later_one_stays(dropping: Case) -> None:
    if not dropping.ranks:
        return  # draws lots among equals, or takes them for other reasons
    if isinstance(dropping.recipe.code, Chained):
        return  # needs a score that says the same in all layers
    recipe = dropping.recipe
    stages = tuple(replace(stage, score=Indifferent(), rescorers=()) for stage in recipe.stages)
    model, calls = tiny("llama"), drive.text(67, 40).calls(63, 1, 1, 1, 1)
    cache = KVCache(model, Recipe(stages, recipe.code, recipe.code_layers))
    for call, kept in zip(calls, drive.run(model, cache, calls).kept, strict=True):
        for layer, rows in kept.items():
            decided = [stage for stage in stages if layer in stage.layers]
            sinks = decided[0].act.sinks if decided else 0
            for heads, seen in zip(rows, call.mask.sum(-1).tolist(), strict=True):
                for head in heads:
                    n = len(head) - min(sinks, len(head))
                    assert head == [*range(len(head) - n), *range(seen - n, seen)]
