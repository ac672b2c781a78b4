"""The table of relations, and what they share: runs of a recipe, and the best of plain scores."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from torch import Tensor

from keyvalise import KVCache
from tests.support import drive
from tests.support.models import tiny

N = 70
Heads = list[list[int]]
RELATIONS: dict[str, list[Callable[[], None]]] = {}


def of(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a relation into the table, under the recipes that it is about."""

    def enter(relation: Callable[[], None]) -> Callable[[], None]:
        once = functools.cache(relation)
        for name in names:
            RELATIONS.setdefault(name, []).append(once)
        return once

    return enter


def kept(recipe: str, *steps: int, n: int = N, seed: int = 0, text_seed: int = 0) -> list[Heads]:
    """[layer][kv head] → ordinals after a prompt of n tokens, and after these calls."""
    calls = drive.text(n + sum(steps), seed=text_seed).calls(n, *steps)
    cache = KVCache(tiny("llama"), recipe, seed=seed)
    return [rows[0] for rows in drive.run(tiny("llama"), cache, calls).kept[-1].values()]


def best(scores: Tensor, n: int, sinks: int = 0, recent: int = 0) -> Heads:
    """The n best of [H, T] with the first and the newest among them."""
    scores = scores.clone()
    scores[:, :sinks] = scores[:, scores.shape[1] - recent :] = math.inf
    return [sorted(row.topk(n).indices.tolist()) for row in scores]


def check(recipe: str, score: Callable[[int], Tensor], n: int, sinks: int = 0, recent: int = 0) -> None:
    """What a recipe keeps of a prompt against the best scores [H, N] of every layer."""
    for layer, heads in enumerate(kept(f"{recipe} @ {n}tok")):
        assert heads == best(score(layer), n, sinks, recent), f"layer {layer}"
