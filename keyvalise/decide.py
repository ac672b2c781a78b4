"""One decision of one stage: score → rescore → protect → allocate → select → act.

Knows the parts by their protocols, in their order; what becomes of the entries is the store's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import heads, protect
from keyvalise.recipe.river import Bed
from keyvalise.recipe.stage import Stage
from keyvalise.store import chosen, layer
from keyvalise.store.roll import Roll
from keyvalise.types.data import Memory, Piece, Scores


@dataclass(frozen=True)
class Case:
    """What a stage decides on: scores, votes before the heads were reduced, protection, tokens per row."""

    scores: Scores
    votes: Scores
    guard: Tensor
    budget: Tensor


def now(memory: Memory, roll: Roll, due: tuple[Stage, tuple[bool, ...]], piece: Piece, bed: Bed) -> Memory:
    """score → rescore → protect → allocate → select → act, in the rows whose cut it is."""
    (stage, _), env = due, bed.env
    case = judge(memory, roll, due, piece, bed)
    if case is None:
        return memory
    counts = stage.allocate.allocate(env, case.scores, case.guard, roll.entries.lengths, case.budget)
    return carry_out(memory, roll, due, case, counts, bed)


def judge(
    memory: Memory,
    roll: Roll,
    due: tuple[Stage, tuple[bool, ...]],
    piece: Piece,
    bed: Bed,
    scores: Scores | None = None,
) -> Case | None:
    """What the stage decides on, or nothing where everything may stay; `scores` if they are known already."""
    (stage, rows), env, entries = due, bed.env, roll.entries
    tokens = bed.river.tokens(stage, rows, memory, layer.live_groups(memory))
    if all(seen <= n for seen, n in zip(memory.clock, tokens, strict=True)):
        return None
    scores = scores or stage.score.score(env, entries, memory.stats, piece)
    for rescorer in stage.rescorers:
        scores = rescorer.rescore(env, scores, entries, memory.stats, piece)
    guard = protect.mask(
        entries.ordinals, memory.clock, tokens, sinks=stage.act.sinks, recent=stage.act.recent
    )
    budget = torch.tensor(tokens, device=guard.device) * env.geometry.n_kv_heads
    return Case(heads.reduce(scores, env.geometry), scores, guard, budget)


def carry_out(
    memory: Memory, roll: Roll, due: tuple[Stage, tuple[bool, ...]], case: Case, counts: Tensor, bed: Bed
) -> Memory:
    """Choose as many as counted, and let the act deal with the rest."""
    (stage, rows), env, entries = due, bed.env, roll.entries
    choice = stage.select.select(env, case.scores, counts, case.guard, entries, case.votes)
    own = layer.owned(memory, stage.act.name)
    choice, own = stage.act.act(env, entries, choice, case.scores, own)
    memory = layer.owning(memory, stage.act.name, own, rows)
    return chosen.keep(memory, roll, choice, rows, bed.river.angle)
