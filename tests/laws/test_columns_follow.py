"""columns_follow: what is remembered of an entry stays with it, through decisions, codes, crops, forks and
beams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise import KVCache, Recipe
from keyvalise.store.roll import Roll
from keyvalise.types.code import Chained
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.geometry import Geometry
from tests.support import drive
from tests.support.cases import Case
from tests.support.models import tiny


@dataclass(frozen=True, slots=True)
class MarkObserver:
    """Writes once, when an entry arrives, who it is."""

    @property
    def stats(self) -> frozenset[str]:
        return frozenset()

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"mark"})

    def stat_bytes(self, geometry: Geometry) -> int:
        return 0

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        return {}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        old = entries.column("mark")
        return {}, {"mark": torch.where(old == 0, identity(entries), old)}


def identity(entries: Entries) -> Tensor:
    """A number that names row-independent ordinal and head."""
    heads = torch.arange(entries.live.shape[1])[None, :, None]
    return (1000.0 * heads + entries.ordinals + 1).masked_fill(~entries.live, 0)


@dataclass(frozen=True)
class Marked:
    """A score that has one more thing remembered."""

    inner: Any = None

    @property
    def observers(self) -> tuple[Any, ...]:
        return (*self.inner.observers, MarkObserver())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return self.inner.score(env, entries, stats, piece)


def check(cache: KVCache, *, after_prompt: bool) -> int:
    """Marks where they belong; how many layers had any."""
    n_marked = 0
    for layer in cache.shared.layers.values():
        assert layer.memory is not None
        entries = Roll.of(layer.memory).entries
        if "mark" in entries.columns:
            assert torch.equal(entries.column("mark")[entries.live], identity(entries)[entries.live])
            n_marked += 1
        else:
            # A stage that never decides again needs nothing remembered.
            assert after_prompt or layer.env.layer not in cache.recipe.stages[0].layers
    return n_marked


def test_columns_follow_their_entries(dropping: Case) -> None:
    if isinstance(dropping.recipe.code, Chained):
        return  # no score that writes columns goes with it
    stages = tuple(replace(stage, score=Marked(stage.score)) for stage in dropping.recipe.stages)
    model = tiny("llama")
    cache = KVCache(
        model, Recipe(stages, dropping.recipe.code, dropping.recipe.code_layers), prefill_chunk=11
    )
    cache.shared.fixed = KVCache(model, dropping.recipe).shared.fixed  # a marked part names no asset
    cache.prompt_ends(63)
    text = drive.text(90, 61)
    *prompt, first, second, third, drafts = text.calls(30, 20, 13, 1, 1, 1, 7)
    n_marked = 0
    for i, call in enumerate(prompt):
        drive.run(model, cache, [call])
        n_marked += check(cache, after_prompt=i == 2)
    assert n_marked >= 4, "while the prompt lasts, every stage's observers write"
    drive.run(model, cache, [first])
    check(cache, after_prompt=True)
    cache.reorder_cache(torch.tensor([1, 0]))
    check(cache, after_prompt=True)
    cache.reorder_cache(torch.tensor([1, 0]))
    twin = cache.fork()
    drive.run(model, twin, [second])
    drive.run(model, cache, [second, third])
    cache.activate_past_recording()
    drive.run(model, cache, [drafts])
    n_marked = check(cache, after_prompt=True)
    cache.crop(-3)
    assert check(cache, after_prompt=True) == n_marked
    cache.crop(-6)
    assert check(cache, after_prompt=True) == n_marked
    check(twin, after_prompt=True)
    assert (n_marked > 0) == dropping.decodes
