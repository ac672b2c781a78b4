"""Windows published for long prompts, fitted to a small budget: one rule for every recipe and rival."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

from keyvalise.recipe.object import Recipe
from keyvalise.recipe.stage import Stage
from keyvalise.types.quantity import Budget

LARGEST = 4
"""A window takes at most one of so many parts of the budget."""


def most(budget: Budget, n_tokens: int) -> int:
    """The largest window under a budget, where the prompt has `n_tokens`: a quarter of the entries per kv
    head that it would hold raw, at least 1. Bytes say nothing without a model: any window fits.
    """
    if budget.unit == "B":
        return n_tokens
    held = budget.amount if budget.unit == "tok" else n_tokens * budget.amount / 100
    return max(1, int(held / LARGEST + 1e-9))


def fitted(recipe: Recipe, n_tokens: int) -> Recipe:
    """The recipe with no window, no protected range larger than `most` of its stage's budget.

    Shares stay as they are: they are of the budget already.
    """
    stages = tuple(_fitted(stage, n_tokens) for stage in recipe.stages)
    return replace(recipe, stages=stages)


def _fitted(stage: Stage, n_tokens: int) -> Stage:
    if stage.budget is None:
        return stage
    limit = most(stage.budget, n_tokens)
    rescorers = tuple(_capped(part, limit) for part in stage.rescorers)
    score, allocate, select, act = (
        _capped(part, limit) for part in (stage.score, stage.allocate, stage.select, stage.act)
    )
    return replace(stage, score=score, rescorers=rescorers, allocate=allocate, select=select, act=act)


def _capped(part: Any, limit: int) -> Any:
    windows = [f.name for f in dataclasses.fields(part) if f.metadata.get("is_window")]
    large = {name for name in windows if isinstance(getattr(part, name), int) and getattr(part, name) > limit}
    return replace(part, **dict.fromkeys(large, limit)) if large else part
