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
from keyvalise.recipe.cuts import Due
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


def meet(layers: Sequence[Parked], states: Mapping[str, Tensor]) -> list[Memory]:
    """The memories after all parked stages have acted, in text order; `states` as a survey wants them."""
    layers = [replace(one, bed=_told(one)) for one in layers]
    for stage in dict.fromkeys(stage for one in layers for stage, _ in one.due):
        mine = [i for i, one in enumerate(layers) if any(stage is due for due, _ in one.due)]
        after = act(stage, [layers[i] for i in mine], states)
        for i, memory in zip(mine, after, strict=True):
            layers[i] = replace(layers[i], memory=memory)
    return [flow.settle(one.memory, one.due, one.piece, one.bed) for one in layers]


def act(stage: Stage, layers: Sequence[Parked], states: Mapping[str, Tensor]) -> list[Memory]:
    """One stage in all its layers."""
    rolls = [Roll.of(one.memory) for one in layers]
    dues = [next(due for due in one.due if due[0] is stage) for one in layers]
    scores: Sequence[Scores | None] = [None] * len(layers)
    if scope(stage.score) == "model":
        views = [
            (one.bed.env, roll.entries, one.memory.stats) for one, roll in zip(layers, rolls, strict=True)
        ]
        scores = stage.score.survey(views, states)  # type: ignore[attr-defined]
    cases = [
        decide.judge(one.memory, roll, due, one.piece, one.bed, score)
        for one, roll, due, score in zip(layers, rolls, dues, scores, strict=True)
    ]
    return [
        one.memory
        if case is None or count is None
        else decide.carry_out(one.memory, roll, due, case, count, one.bed)
        for one, roll, due, case, count in zip(
            layers, rolls, dues, cases, _counts(stage, layers, rolls, cases), strict=True
        )
    ]


def _counts(
    stage: Stage, layers: Sequence[Parked], rolls: Sequence[Roll], cases: Sequence[decide.Case | None]
) -> list[Tensor | None]:
    """Counts [B, H] of every layer that has something to decide."""
    asked = [i for i, case in enumerate(cases) if case is not None]
    counts: list[Tensor | None] = [None] * len(layers)
    views: list[Claim] = []
    for i in asked:
        case = cases[i]
        assert case is not None
        views.append((layers[i].bed.env, case.scores, case.guard, rolls[i].entries.lengths, case.budget))
    shared: Sequence[Tensor] = (
        stage.allocate.share(views)  # type: ignore[attr-defined]
        if scope(stage.allocate) == "model"
        else [stage.allocate.allocate(*view) for view in views]
    )
    for i, count in zip(asked, shared, strict=True):
        counts[i] = count
    return counts


def _told(one: Parked) -> Bed:
    return replace(one.bed, env=replace(one.bed.env, prompt=one.memory.prompt, seen=one.memory.clock))


def scope(part: Any) -> str:
    """Whether a part looks at one layer or at all of them."""
    return str(getattr(part, "scope", "layer"))
