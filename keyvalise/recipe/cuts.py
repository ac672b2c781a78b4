"""Where a call is cut: the columns at which stages act, and in which rows."""

from __future__ import annotations

from collections.abc import Sequence

from keyvalise.recipe.stage import Stage
from keyvalise.types.data import Call
from keyvalise.types.when import AtPrompt

Due = tuple[tuple[Stage, tuple[bool, ...]], ...]
"""Stages that act at a cut, in text order, each with a flag per row: whether it is the row's cut."""


def cuts(call: Call, stages: Sequence[Stage], has_cuts: bool) -> list[tuple[int, Due]]:
    """(column after which the call is cut, what is due there), ascending; the last column is always a cut.

    has_cuts   whether the memory depends on cuts at all: then drafts ask for one after every token from
               `call.careful` on, and prompts for one at their end and after every prefill chunk
    """
    stretch, n_rows = call.piece.stretch, len(call.spans)
    due: dict[int, dict[int, set[int]]] = {stretch.width: {}}
    if call.careful is not None and has_cuts:
        due |= {column: {} for column in range(max(call.careful, 1), stretch.width)}
    for row, span in enumerate(call.spans):
        for ordinal in AtPrompt().cuts(span) if has_cuts else ():
            due.setdefault(stretch.leads[row] + ordinal - stretch.starts[row], {})
    for i, stage in enumerate(stages):
        for row, span in enumerate(call.spans):
            for ordinal in {cut for when in stage.when for cut in when.cuts(span)}:
                column = stretch.leads[row] + ordinal - stretch.starts[row]
                due.setdefault(column, {}).setdefault(i, set()).add(row)
    return [
        (
            end,
            tuple(
                (stages[i], tuple(row in rows for row in range(n_rows)))
                for i, rows in sorted(due[end].items())
            ),
        )
        for end in sorted(due)
    ]
