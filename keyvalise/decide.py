"""One decision of one stage: score → rescore → protect → allocate → select → act.

Knows the parts by their protocols, in their order; what becomes of the entries is the store's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.ops import heads, protect
from keyvalise.recipe import tier
from keyvalise.recipe.river import Bed
from keyvalise.recipe.stage import Stage
from keyvalise.store import chosen, demoted, layer
from keyvalise.store.roll import Roll
from keyvalise.types.data import Env, Memory, Piece, Scores

Due = tuple[Stage, tuple[bool, ...]]
"""A stage, and in which rows it acts."""


@dataclass(frozen=True)
class Cut:
    """A layer where a stage is due: its memory, the entries in it, the last piece it met, its bed."""

    memory: Memory
    roll: Roll
    piece: Piece
    bed: Bed

    def env(self, stage: Stage) -> Env:
        """The surroundings in which a stage decides."""
        env = self.bed.env
        return replace(env, layers=stage.layers.of(env.geometry.n_layers))


@dataclass(frozen=True)
class Case:
    """What a stage decides on: scores, votes before the heads were reduced, protection, tokens per row."""

    scores: Scores
    votes: Scores
    guard: Tensor
    budget: Tensor


def now(cut: Cut, due: Due) -> Memory:
    """score → rescore → protect → allocate → select → act, in the rows whose cut it is."""
    case = judge(cut, due)
    if case is None:
        return cut.memory
    lengths = cut.roll.entries.lengths
    counts = due[0].allocate.allocate(cut.env(due[0]), case.scores, case.guard, lengths, case.budget)
    return carry_out(cut, due, case, counts)


def judge(cut: Cut, due: Due, scores: Scores | None = None) -> Case | None:
    """What the stage decides on, or nothing where everything may stay; `scores` if they are known already."""
    (stage, rows), memory, entries = due, cut.memory, cut.roll.entries
    tokens = cut.bed.river.tokens(stage, rows, memory, layer.live_groups(memory))
    if all(seen <= n for seen, n in zip(memory.clock, tokens, strict=True)):
        return None
    env = cut.env(stage)
    scores = scores or stage.score.score(env, entries, memory.stats, cut.piece)
    for rescorer in stage.rescorers:
        scores = rescorer.rescore(env, scores, entries, memory.stats, cut.piece)
    guard = protect.mask(
        entries.ordinals,
        memory.clock,
        tokens,
        sinks=stage.act.sinks,
        recent=stage.act.recent,
        only=env.spans[stage.only] if stage.only else None,
    )
    budget = torch.tensor(tokens, device=guard.device) * env.geometry.n_kv_heads
    return Case(heads.reduce(scores, env.geometry), scores, guard, budget)


def carry_out(cut: Cut, due: Due, case: Case, counts: Tensor) -> Memory:
    """Choose as many as counted, and let the act deal with the rest."""
    (stage, rows), entries = due, cut.roll.entries
    env = cut.env(stage)
    choice = stage.select.select(env, case.scores, counts, case.guard, entries, case.votes)
    own = layer.owned(cut.memory, stage.act.name)
    choice, own = stage.act.act(env, entries, choice, case.scores, own)
    memory, code = layer.owning(cut.memory, stage.act.name, own, rows), tier.of(stage)
    if code is not None:
        lost = entries.live & ~choice.keep & torch.tensor(rows, device=choice.keep.device)[:, None, None]
        memory = demoted.demote(memory, cut.roll, lost, cut.bed.env, demoted.Tier(stage.act.name, code))
    return chosen.keep(memory, cut.roll, choice, rows, cut.bed.river.angle)
