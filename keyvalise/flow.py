"""The river: what happens to one layer's memory when new tokens arrive. Read this file first.

    append → attend → observe → decide → settle

A call is cut into pieces at the absolute positions where stages act; every piece runs down the river once. A memory
is a value: `advance` returns a new one and changes nothing it was given. This page knows the order of things, the
loop over pieces and the loop over stages. It knows no tensor mathematics (`ops/`), no representation (`store/`),
no method by name (the parts come in through the recipe), no model and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.ops import attend, heads, protect
from keyvalise.recipe.compose import LayerRiver
from keyvalise.recipe.object import Stage
from keyvalise.store import layer
from keyvalise.types.data import Call, Choice, Env, Memory, Piece, Queries
from keyvalise.types.part import Observer
from keyvalise.types.quantity import Budget


@dataclass(frozen=True)
class Passed:
    """out [B, Hq, S, Dv] float32; the memory after the call; and, where asked, the value after every piece."""

    out: Tensor | None
    memory: Memory
    values: tuple[tuple[Memory, Piece], ...]


def advance(memory: Memory, call: Call, river: LayerRiver, env: Env) -> Passed:
    """Take a whole call down the river."""
    outs, values = [], []
    for piece, due in pieces(call, river):
        whole = piece is call.piece
        memory, piece = meet(memory, piece, river, env, call.native if whole else None)
        memory = commit(memory, piece, due, call, river, env)
        outs.append(piece.out)
        values.append((memory, piece))
    return Passed(outs[0] if len(outs) == 1 else torch.cat(outs, 2), memory, tuple(values))


def late(memory: Memory, call: Call, river: LayerRiver, env: Env) -> Memory:
    """For a call that was appended whole and attended elsewhere: all stages due in it act at its end."""
    due: dict[int, tuple[bool, ...]] = {}
    for _, stages in pieces(call, river):
        for stage, rows in stages:
            i = river.stages.index(stage)
            due[i] = tuple(a or b for a, b in zip(rows, due.get(i, rows), strict=True))
    acting = tuple((river.stages[i], rows) for i, rows in sorted(due.items()))
    return commit(memory, call.piece, acting, call, river, env)


Due = tuple[tuple[Stage, tuple[bool, ...]], ...]


def pieces(call: Call, river: LayerRiver) -> Iterator[tuple[Piece, Due]]:
    """The call between its cuts, each piece with the stages due at its end and the rows they act in."""
    whole, stretch = call.piece, call.piece.stretch
    due: dict[int, dict[int, set[int]]] = {stretch.width: {}}
    if call.careful is not None and (river.code or river.stages):
        due |= {column: {} for column in range(max(call.careful, 1), stretch.width)}
    for i, stage in enumerate(river.stages):
        for row, span in enumerate(call.spans):
            for ordinal in {cut for when in stage.when for cut in when.cuts(span)}:
                column = stretch.leads[row] + ordinal - stretch.starts[row]
                due.setdefault(column, {}).setdefault(i, set()).add(row)
    begin = 0
    for end in sorted(due):
        stages = tuple(
            (river.stages[i], tuple(row in rows for row in range(len(call.spans))))
            for i, rows in sorted(due[end].items())
        )
        yield whole.cut(begin, end), stages
        begin = end


def meet(memory: Memory, piece: Piece, river: LayerRiver, env: Env, native: object) -> tuple[Memory, Piece]:
    """Append the piece, then let its queries read everything, the piece itself causally."""
    first = layer.is_unread(memory)
    memory = layer.append(memory, piece, env.geometry.dtype, river.angle)
    if native is not None and first:
        return memory, replace(piece, out=native(), find_lse=lambda: lse_of(memory, piece, env))  # type: ignore[operator]
    partial, memory = layer.attend_all(memory, queries(piece, env))
    return memory, replace(piece, out=partial.out, find_lse=lambda: partial.lse)


def queries(piece: Piece, env: Env) -> Queries:
    return Queries(piece.q, piece.stretch, env.geometry, env.rope, piece.is_prompt)


def lse_of(memory: Memory, piece: Piece, env: Env) -> Tensor:
    """The lse of a first piece whose output the model's own attention gave."""
    return layer.attend_all(memory, queries(piece, env))[0].lse


def commit(memory: Memory, piece: Piece, due: Due, call: Call, river: LayerRiver, env: Env) -> Memory:
    """Observe the piece, let the stages due decide, settle what has become old."""
    totals = tuple(max(seen, span.total) for span, seen in zip(call.spans, memory.clock, strict=True))
    if piece.is_prompt:
        memory = replace(memory, prompt=totals)
    observers = river.always + (river.in_prompt if piece.is_prompt else ())
    if observers or due:
        env = replace(env, prompt=memory.prompt)
        memory, roll = observe(memory, piece, observers, env)
        for stage, rows in due:
            memory = decide(memory, roll, stage, rows, piece, river, env)
            roll = layer.Roll.of(memory)
        if piece.is_prompt and memory.prompt == memory.clock:
            memory = forget(memory, roll, river)
    return settle(memory, due, river, env)


def observe(
    memory: Memory, piece: Piece, observers: tuple[Observer, ...], env: Env
) -> tuple[Memory, layer.Roll]:
    """Let every observer see the piece; columns go onto the entries, statistics into the memory."""
    roll = layer.Roll.of(memory)
    stats, columns = dict(memory.stats), {}
    for observer in observers:
        if not observer.stats <= stats.keys():
            stats |= observer.init(env, len(memory.clock), piece.q.device)
        new, columns_of = observer.update(env, stats, piece, roll.entries)
        stats, columns = stats | new, columns | columns_of
    return layer.with_columns(replace(memory, stats=stats), roll, columns)


def forget(memory: Memory, roll: layer.Roll, river: LayerRiver) -> Memory:
    """After the prompt: nothing stays remembered that no later stage will read."""
    stats = {name for observer in river.always for name in observer.stats}
    columns = {name for observer in river.always for name in observer.columns}
    kept = {name: column for name, column in roll.entries.columns.items() if name in columns}
    memory = replace(memory, stats={name: stat for name, stat in memory.stats.items() if name in stats})
    return layer.with_columns(memory, roll, kept)[0]


def decide(
    memory: Memory, roll: layer.Roll, stage: Stage, rows: tuple[bool, ...], piece: Piece, river: LayerRiver, env: Env
) -> Memory:
    """score → rescore → protect → allocate → select → act, in the rows whose cut it is."""
    entries = roll.entries
    tokens = [
        river.plan(stage, seen, basis(stage.budget, seen, prompt)).tokens if mine else seen
        for seen, prompt, mine in zip(memory.clock, memory.prompt, rows, strict=True)
    ]
    if all(seen <= n for seen, n in zip(memory.clock, tokens, strict=True)):
        return memory
    scores = stage.score.score(env, entries, memory.stats, piece)
    for rescorer in stage.rescorers:
        scores = rescorer.rescore(env, scores, entries, memory.stats, piece)
    votes, scores = scores, heads.reduce(scores, env.geometry)
    guard = protect.mask(entries.ordinals, memory.clock, tokens, sinks=stage.act.sinks, recent=stage.act.recent)
    budget = torch.tensor(tokens, device=guard.device) * env.geometry.n_kv_heads
    counts = stage.allocate.allocate(env, scores, guard, entries.lengths, budget)
    choice = stage.select.select(env, scores, counts, guard, entries, votes)
    choice, own = stage.act.act(env, entries, choice, scores, layer.owned(memory, stage.act.name))
    choice = only_rows(choice, entries.live, rows)
    return layer.keep(layer.owning(memory, stage.act.name, own), roll, choice, river.angle)


def only_rows(choice: Choice, live: Tensor, rows: tuple[bool, ...]) -> Choice:
    """The choice in the rows whose cut it is; everything in the others."""
    if all(rows):
        return choice
    mine = torch.tensor(rows, device=live.device)[:, None, None]
    add = None if choice.add_logw is None else choice.add_logw.masked_fill(~mine, 0)
    return Choice(torch.where(mine, choice.keep, live), add)


def settle(memory: Memory, due: Due, river: LayerRiver, env: Env) -> Memory:
    """Code what lies far enough behind; after a decision, hold nothing that the budget does not allow."""
    if river.code is None:
        return layer.fitted(memory) if due else memory
    residual = [river.residual(seen, prompt) for seen, prompt in zip(memory.clock, memory.prompt, strict=True)]
    for stage, rows in due:
        for row in (row for row, mine in enumerate(rows) if mine):
            seen = memory.clock[row]
            plan = river.plan(stage, seen, basis(stage.budget, seen, memory.prompt[row]))
            residual[row] = min(residual[row], plan.residual)
    unit = river.code.group if due else max(river.code.group, CODING_RUN)
    memory = layer.settle(memory, river.code, env, residual, unit)
    return layer.fitted(memory) if due else memory


def basis(budget: Budget | None, seen: int, prompt: int) -> int:
    """The tokens that a share refers to: all seen, or of a prompt that is known to be longer; or the prompt's."""
    if budget is not None and budget.of_prompt:
        return prompt or seen
    return max(seen, prompt)


CODING_RUN = 32
"""Entries that leave the raw tail together while decoding, so that codes are not rewritten for every token."""
