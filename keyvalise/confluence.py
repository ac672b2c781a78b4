"""Where the rivers meet: stages that look at all layers, once the last layer has met the call.

    survey → judge → share out → carry out, for every such stage, then every layer settles

Knows the same things as `flow.py`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from keyvalise import decide, flow
from keyvalise.recipe.cuts import Due, either
from keyvalise.recipe.river import Bed
from keyvalise.recipe.stage import Stage
from keyvalise.store.roll import Roll
from keyvalise.types.data import Memory, Piece, Scores
from keyvalise.types.part import Claim


@dataclass(frozen=True)
class Parked:
    """A layer that waits: its memory, the last piece it met, and the stages due, with their rows."""

    memory: Memory
    piece: Piece
    due: Due
    bed: Bed

    @property
    def rows(self) -> tuple[bool, ...]:
        """The rows that wait."""
        return either(*(rows for _, rows in self.due))


def meet(layers: Sequence[Parked], states: Mapping[str, Tensor]) -> list[Memory]:
    """The memories after all parked stages have acted, in text order; `states` as a survey wants them."""
    layers = [replace(one, bed=_told(one)) for one in layers]
    for stage in dict.fromkeys(stage for one in layers for stage, _ in one.due):
        mine = [i for i, one in enumerate(layers) if any(stage is due for due, _ in one.due)]
        after = act(stage, [layers[i] for i in mine], states)
        for i, memory in zip(mine, after, strict=True):
            layers[i] = replace(layers[i], memory=memory)
    return [flow.settle(one.memory, one.due, one.piece, one.bed, one.rows) for one in layers]


def act(stage: Stage, layers: Sequence[Parked], states: Mapping[str, Tensor]) -> list[Memory]:
    """One stage in all its layers."""
    cuts = [decide.Cut(one.memory, Roll.of(one.memory), one.piece, one.bed) for one in layers]
    dues = [next(due for due in one.due if due[0] is stage) for one in layers]
    scores: Sequence[Scores | None] = [None] * len(layers)
    if scope(stage.score) == "model":
        views = [(cut.env(stage), cut.roll.entries, cut.memory.stats) for cut in cuts]
        scores = stage.score.survey(views, states)  # type: ignore[attr-defined]
    judged = zip(cuts, dues, scores, strict=True)
    cases = [decide.judge(cut, due, score) for cut, due, score in judged]
    after = [one.memory for one in layers]
    asked = [(i, case) for i, case in enumerate(cases) if case is not None]
    counts = _counts(stage, [(cuts[i], case) for i, case in asked])
    for (i, case), count in zip(asked, counts, strict=True):
        after[i] = decide.carry_out(cuts[i], dues[i], case, count)
    return after


def _counts(stage: Stage, asked: Sequence[tuple[decide.Cut, decide.Case]]) -> Sequence[Tensor]:
    """Counts [B, H] of every layer that has something to decide."""
    claims: list[Claim] = [
        (cut.env(stage), case.scores, case.guard, cut.roll.entries.lengths, case.budget)
        for cut, case in asked
    ]
    if claims and scope(stage.allocate) == "model":
        shared: Sequence[Tensor] = stage.allocate.share(claims)  # type: ignore[attr-defined]
        return shared
    return [stage.allocate.allocate(*claim) for claim in claims]


def _told(one: Parked) -> Bed:
    return replace(one.bed, env=replace(one.bed.env, prompt=one.memory.prompt, seen=one.memory.clock))


def scope(part: Any) -> str:
    """Whether a part looks at one layer or at all of them."""
    return str(getattr(part, "scope", "layer"))
