"""Where a call is cut: the columns at which stages act, and in which rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyvalise.recipe.stage import Stage
from keyvalise.types.data import Call
from keyvalise.types.when import AtPrompt

Due = tuple[tuple[Stage, tuple[bool, ...]], ...]
"""Stages that act at a cut, in text order, each with a flag per row: whether it is the row's cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """column: after which the call is cut;  rows: those that would be cut there if they were alone
    parked: stages that wait for other layers, since the call began
    """

    column: int
    due: Due
    rows: tuple[bool, ...]
    parked: Due

    @property
    def free(self) -> tuple[bool, ...]:
        """The rows that would be cut there and wait for nothing."""
        waiting = either((False,) * len(self.rows), *(rows for _, rows in self.parked))
        return tuple(mine and not waits for mine, waits in zip(self.rows, waiting, strict=True))


def either(*flags: tuple[bool, ...]) -> tuple[bool, ...]:
    """Per row, whether any of the flags is set."""
    return tuple(map(any, zip(*flags, strict=True)))


def together(*dues: Due) -> Due:
    """Every stage once, in the rows of all."""
    rows: dict[Stage, tuple[bool, ...]] = {}
    for stage, mine in (pair for due in dues for pair in due):
        rows[stage] = either(mine, rows.get(stage, mine))
    return tuple(rows.items())


def cuts(call: Call, stages: Sequence[Stage], has_cuts: bool) -> list[Cut]:
    """Where the call is cut, ascending; the last column is always a cut, and every row's own.

    has_cuts   whether the memory depends on cuts at all: then drafts ask for one after every token from
               `call.careful` on, and prompts for one at their end and after every prefill chunk
    """
    stretch, n_rows = call.piece.stretch, len(call.spans)
    due: dict[int, dict[int, set[int]]] = {stretch.width: {}}
    own: dict[int, set[int]] = {stretch.width: set(range(n_rows))}
    if call.careful is not None and has_cuts:
        careful = range(max(call.careful, 1), stretch.width)
        due |= {column: {} for column in careful}
        own |= {column: set(range(n_rows)) for column in careful}
    for row, span in enumerate(call.spans):
        for ordinal in AtPrompt().cuts(span) if has_cuts else ():
            column = stretch.leads[row] + ordinal - stretch.starts[row]
            due.setdefault(column, {})
            own.setdefault(column, set()).add(row)
    for i, stage in enumerate(stages):
        for row, span in enumerate(call.spans):
            for ordinal in {cut for when in stage.when for cut in when.cuts(span)}:
                column = stretch.leads[row] + ordinal - stretch.starts[row]
                due.setdefault(column, {}).setdefault(i, set()).add(row)
                own.setdefault(column, set()).add(row)

    def flags(rows: set[int]) -> tuple[bool, ...]:
        return tuple(row in rows for row in range(n_rows))

    found, parked = [], Due()
    for end in sorted(due):
        here = tuple((stages[i], flags(rows)) for i, rows in sorted(due[end].items()))
        parked = together(parked, tuple(one for one in here if one[0].scope == "model"))
        found.append(Cut(end, here, flags(own[end]), parked))
    return found
