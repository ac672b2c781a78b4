"""The river: what happens to one layer's memory when new tokens arrive. Read this file first.

    append → attend → observe → decide → settle

A call is cut into pieces where stages act; every piece runs down the river once. Deciding is `decide.py`'s
business; stages that look at all layers wait for the last and act where the rivers meet (`confluence.py`).
A memory is a value: nothing that is given is changed. This page knows the order of things; it knows no tensor
mathematics (`ops/`), no representation (`store/`), no method, no model and no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise import decide
from keyvalise.recipe.cuts import Cut, Due, cuts, together
from keyvalise.recipe.river import Bed, LayerRiver
from keyvalise.store import indexing, layer
from keyvalise.store.roll import Roll, only, with_columns
from keyvalise.types.data import Call, Env, Memory, Piece, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True)
class Passed:
    """out [B, Hq, S, Dv] float32; the memory after the call; the value after every piece; the stages due that
    wait for other layers.
    """

    out: Tensor
    memory: Memory
    values: tuple[tuple[Memory, Piece], ...]
    parked: Due = ()


def advance(memory: Memory, call: Call, bed: Bed) -> Passed:
    """Take a whole call down the river."""
    values = []
    for piece, cut in pieces(call, bed.river):
        memory, piece = meet(memory, piece, call if piece is call.piece else None, bed)
        memory = commit(memory, piece, cut, call, bed)
        values.append((memory, piece))
    outs = [piece.out for _, piece in values if piece.out is not None]
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 2)
    return Passed(out, memory, tuple(values), cut.parked)


def late(memory: Memory, call: Call, bed: Bed) -> tuple[Memory, Due]:
    """For a call that was appended whole and attended elsewhere: all stages due in it act at its end; those
    that wait for other layers are handed back.
    """
    found = [cut for _, cut in pieces(call, bed.river)]
    due = together(*(cut.due for cut in found))
    order = [(stage, rows) for own in bed.river.stages for stage, rows in due if stage is own]
    cut = replace(found[-1], due=tuple(order))
    return commit(memory, call.piece, cut, call, bed), cut.parked


def pieces(call: Call, river: LayerRiver) -> Iterator[tuple[Piece, Cut]]:
    """The call between its cuts, each piece with the cut at its end."""
    begin = 0
    for cut in cuts(call, river.stages, river.has_cuts):
        piece = call.piece.cut(begin, cut.column)
        yield (replace(piece, is_prompt=False) if call.is_past_prompt(piece) else piece), cut
        begin = cut.column


def meet(memory: Memory, piece: Piece, whole: Call | None, bed: Bed) -> tuple[Memory, Piece]:
    """Append the piece, then let its queries read everything, the piece itself causally.

    Where nothing was stored before a whole call, the model's own attention gives the output.
    """
    env = bed.env
    grown = layer.append(memory, piece, env.geometry.dtype, bed.river.angle)
    queries = Queries(piece.q, piece.stretch, env.geometry, env.rope, piece.is_prompt)
    queries = replace(queries, scratch=bed.scratch, stats=memory.stats)
    if whole is not None and whole.native is not None and layer.is_unread(memory):
        return grown, replace(
            piece, out=whole.native(), find_lse=lambda: layer.attend_all(grown, queries)[0].lse
        )
    partial, grown = layer.attend_all(grown, queries)
    return grown, replace(piece, out=partial.out, find_lse=lambda: partial.lse)


def commit(memory: Memory, piece: Piece, cut: Cut, call: Call, bed: Bed) -> Memory:
    """Observe the piece, let the stages due decide, settle what has become old in rows that do not wait."""
    if piece.is_prompt:
        ends = zip(memory.clock, call.spans, strict=True)
        memory = replace(memory, prompt=tuple(max(seen, span.total) for seen, span in ends))
    observers = bed.river.always + (bed.river.in_prompt if piece.is_prompt else ())
    if observers or cut.due:
        bed = replace(bed, env=replace(bed.env, prompt=memory.prompt, seen=memory.clock))
        # While decoding, nobody asks what lies in units.
        roll = Roll.of(memory if cut.due or piece.is_prompt else layer.loose(memory))
        memory, roll = observe(memory, roll, piece, observers, bed.env)
        for i, (stage, rows) in enumerate(cut.due):
            # A layer that holds nothing has nothing to decide.
            if stage.scope == "layer" and layer.longest(memory):
                roll = Roll.of(memory) if i else roll
                memory = decide.now(decide.Cut(memory, roll, piece, bed), (stage, rows))
    if cut.parked or not _is_over(piece, call):
        piece = replace(piece, is_prompt=False)
    return settle(memory, cut.due, piece, bed, cut.free)


def _is_over(piece: Piece, call: Call) -> bool:
    """Whether no row goes on with its prompt behind this piece, as far as the call knows."""
    ends = zip(piece.stretch.ends, call.spans, strict=True)
    return all(span.prompt_end is None or seen >= span.prompt_end for seen, span in ends)


def observe(
    memory: Memory, roll: Roll, piece: Piece, observers: tuple[Observer, ...], env: Env
) -> tuple[Memory, Roll]:
    """Let every observer see the piece; columns go onto the roll's entries, statistics into the memory."""
    stats: dict[str, Tensor] = dict(memory.stats)
    columns: dict[str, Tensor] = {}
    for observer in observers:
        if not observer.stats <= stats.keys():
            stats |= observer.init(env, len(memory.clock), piece.q.device)
        new, written = observer.update(env, stats, piece, roll.entries)
        stats, columns = stats | new, columns | written
    return with_columns(replace(memory, stats=stats), roll, columns)


def settle(memory: Memory, due: Due, piece: Piece, bed: Bed, rows: tuple[bool, ...]) -> Memory:
    """Forget what only the prompt needed, code what lies far enough behind; after a decision, hold nothing
    that the budget does not allow.

    rows   that may code: the others' own cut is elsewhere, or they wait for other layers
    """
    has_watched = bool(bed.river.in_prompt or bed.river.always)
    if piece.is_prompt and has_watched and memory.prompt == memory.clock:
        memory = only(memory, Roll.of(memory), bed.river.always)
    if bed.river.code is not None:
        residual = bed.river.residuals(due, memory, layer.live_groups(memory))
        held = layer.raw_length(memory)
        residual = [n if mine else held for n, mine in zip(residual, rows, strict=True)]
        hurry = [bed.river.is_tight or any(flags[row] for _, flags in due) for row in range(len(residual))]
        todo = layer.Todo(residual, hurry, piece.stretch, bed.scratch)
        memory = layer.settle(memory, bed.river.code, bed.env, todo)
    if bed.river.reader is not None:
        memory = indexing.settle(memory, bed.river.reader, bed.env, rows, bed.river.code is not None)
    return layer.fitted(memory) if due or bed.river.is_tight else memory
