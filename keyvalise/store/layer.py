"""One layer's memory as a list of segments: how entries enter, how they are read, judged, kept and coded.

Order of the segments: frozen ones, those in units, coded, raw kept, then the tail; ordinals ascend along it
in every head.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat, shared, tokens
from keyvalise.store.chosen import keep, packed
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.store.indexed import Indexed
from keyvalise.store.joining import joined
from keyvalise.store.ragged import Ragged
from keyvalise.store.roll import Roll, writable
from keyvalise.store.shared import Shared
from keyvalise.store.sketched import Sketched
from keyvalise.store.tail import Tail
from keyvalise.store.tokens import Tokens
from keyvalise.types.code import Chained, Code, Encode
from keyvalise.types.data import Choice, Env, Memory, Partial, Piece, Queries, Sketch, Stretch
from keyvalise.types.scratch import Scratch
from keyvalise.types.segment import Angle, Named, Segment


def born(n_rows: int, frozen: tuple[Segment, ...] = ()) -> Memory:
    """A memory that has seen nothing."""
    return Memory(frozen, {}, (0,) * n_rows, (0,) * n_rows)


def append(memory: Memory, piece: Piece, dtype: torch.dtype, angle: Angle) -> Memory:
    """The memory with a piece's real tokens in its tail; the clock moves on."""
    before, tail = memory.segments, memory.segments[-1] if memory.segments else None
    if isinstance(tail, Tail):
        before = before[:-1]
    else:
        tail = Tail.start(piece.k, piece.v, piece.stretch, dtype, angle)
    tail = tail.append(piece.k, piece.v, piece.stretch)
    return replace(memory, segments=(*before, tail), clock=piece.stretch.ends)


def attend_all(memory: Memory, queries: Queries) -> tuple[Partial, Memory]:
    """Every segment answers; the answers are merged."""
    if any(isinstance(segment, Tail | Ragged) and segment.angle == "slot" for segment in memory.segments):
        lengths = row_lengths(memory)
        shift = tuple(held - seen for held, seen in zip(lengths, memory.clock, strict=True))
        queries = replace(queries, slot_shift=shift)
    answered = [segment.attend(queries) for segment in memory.segments]
    partial = Partial(*attend.merge_all([(answer.out, answer.lse) for answer, _ in answered]))
    return partial, replace(memory, segments=tuple(segment for _, segment in answered))


def step(memory: Memory, q: Tensor, k: Tensor, v: Tensor, env: Env) -> tuple[Tensor, Memory] | None:
    """One token per row where nothing observes, decides or codes: append and attend with no further ado.

    Shapes   q [B, Hq, 1, D], k [B, H, 1, D], v [B, H, 1, Dv] → out [B, Hq, 1, Dv] float32
    Reduces to   `append` and `attend_all`; None where only they can serve
    """
    segments, shape = memory.segments, env.geometry
    tail = segments[-1] if segments else None
    if not isinstance(tail, Tail) or not tail.is_simple or shape.softcap is not None:
        return None
    if any(isinstance(segment, Tokens) for segment in segments):
        return None
    tail = tail.step(k, v, memory.clock)
    clock = tuple([seen + 1 for seen in memory.clock])
    if len(segments) == 1 and shape.dtype is q.dtype and shape.key_dim == shape.value_dim:
        return attend.alone(q, tail.keys, tail.values, scale=shape.scale), Memory(
            (tail,), memory.stats, clock, memory.prompt
        )
    queries = Queries(q, Stretch.whole(1, memory.clock), shape, env.rope)
    answers = [segment.attend(queries)[0] for segment in (*segments[:-1], tail)]
    out = attend.output([(answer.out, answer.lse) for answer in answers])
    return out, Memory((*segments[:-1], tail), memory.stats, clock, memory.prompt)


def loose(memory: Memory) -> Memory:
    """Without the entries that are in units."""
    return replace(memory, segments=tuple(s for s in memory.segments if not isinstance(s, Indexed)))


def raw_length(memory: Memory) -> int:
    """An upper bound of the uncoded entries of any head, without asking the device."""
    lengths = [
        s.longest if isinstance(s, Tail) else max(s.counts)
        for s in memory.segments
        if isinstance(s, Tail | Ragged)
    ]
    return sum(lengths)


def is_unread(memory: Memory) -> bool:
    """Whether nothing has been appended yet."""
    return all(segment.frozen and segment.kind == "null" for segment in memory.segments)


def owned(memory: Memory, act: str) -> Sketch | None:
    """What the act of this name remembers of its losers."""
    mine = [s.whole() for s in memory.segments if isinstance(s, Sketched) and s.act == act]
    return mine[0] if mine else None


def owning(memory: Memory, act: str, own: Sketch | None, rows: tuple[bool, ...]) -> Memory:
    """The memory with `own` in place of what the act of this name remembered before, in these rows."""
    before = owned(memory, act)
    if own is before:
        return memory
    others = [s for s in memory.segments if not (isinstance(s, Sketched) and s.act == act)]
    mine = () if own is None else (Sketched.of(own, before, rows, act),)
    return replace(memory, segments=(*mine, *others))


def fitted(memory: Memory) -> Memory:
    """The same memory with no slack behind its tail."""
    segments = tuple(s.fitted() if isinstance(s, Tail) else s for s in memory.segments)
    return replace(memory, segments=segments)


CODING_RUN = 32
"""Entries that leave the raw tail together while decoding, so that codes are not rewritten for every
token.
"""


@dataclass(frozen=True, slots=True)
class Todo:
    """How much may stay raw, after which piece.

    residual  per row, the most entries of a head;  hurry: rows in which entries need not wait for a run
    scratch   what the layer below has left of the stretch
    """

    residual: Sequence[int]
    hurry: Sequence[bool]
    stretch: Stretch | None = None
    scratch: Scratch | None = None


def settle(memory: Memory, codec: Code, env: Env, todo: Todo) -> Memory:
    """Write the oldest raw entries in code, so that no more of them than allowed stay raw.

    Entries leave in whole groups of the codec, and in runs of CODING_RUN in rows where nothing hurries.
    """
    raw = [segment for segment in writable(memory) if not isinstance(segment, Coded | Tokens | Indexed)]
    if not raw:
        return memory
    counts = torch.stack([segment.lengths for segment in raw]).sum(0)
    limit = torch.tensor(todo.residual, device=counts.device)[:, None]
    size = codec.group
    unit = torch.where(torch.tensor(todo.hurry, device=counts.device), size, max(size, CODING_RUN))[:, None]
    over = (counts - limit).clamp(min=0)
    leaving = torch.minimum((over + unit - 1) // unit * unit, counts // size * size) // size * size
    if not bool(leaving.any()):
        return memory
    alone = replace(memory, segments=tuple(raw))
    roll = Roll.of(alone)
    slots = torch.arange(roll.entries.live.shape[-1], device=counts.device)
    old = (slots < leaving[..., None]) & roll.entries.live
    runs = {False: [], True: []}  # type: dict[bool, list[flat.Flat]]
    for mine, segment in zip(roll.split(old, False), roll.segments, strict=True):
        runs[True].append(segment.flat(mine))  # type: ignore[attr-defined]
        runs[False].append(segment.flat(segment.entries().live & ~mine))  # type: ignore[attr-defined]
    others = [segment for segment in memory.segments if segment.frozen or isinstance(segment, Indexed)]
    code = _written(memory, flat.join(runs[True]), codec, env, todo)
    return replace(memory, segments=(*others, code, packed(flat.join(runs[False]), memory.clock)))


def _written(memory: Memory, run: flat.Flat, codec: Code, env: Env, todo: Todo) -> Coded | Tokens:
    """What was in code before, and the run behind it."""
    if isinstance(codec, Chained):
        assert todo.scratch is not None and todo.stretch is not None, "codes of layers need what lies below"
        done = [segment for segment in memory.segments if isinstance(segment, Tokens)]
        return tokens.joined([*done, Tokens.of(codec, env, run, todo.stretch, todo.scratch)])
    coded = [segment for segment in memory.segments if isinstance(segment, Coded)]
    read = [segment.coded for segment in memory.segments if isinstance(segment, Indexed)]
    return joined([*coded, Coded.of(cast(Encode, codec), env, run, *itertools.chain(*read), *coded)])


def head_counts(memory: Memory) -> list[int]:
    """Entries of every (row, head), row by row, without asking the device."""
    counts: list[int] = []
    for segment in memory.segments:
        if segment.frozen:
            continue
        if isinstance(segment, Tail):
            mine: Sequence[int] = [n for n in segment.lengths_ for _ in range(segment.n_heads)]
        else:
            mine = segment.counts  # type: ignore[attr-defined]
        counts = list(mine) if not counts else [a + b for a, b in zip(counts, mine, strict=True)]
    return counts


def longest(memory: Memory) -> int:
    """The largest number of entries that any head of any row holds."""
    if len(memory.segments) == 1 and isinstance(memory.segments[0], Tail):
        return memory.segments[0].longest
    return max(head_counts(memory), default=0)


def row_lengths(memory: Memory) -> tuple[int, ...]:
    """Entries of the longest head of every row."""
    counts, n_rows = head_counts(memory), len(memory.clock)
    width = max(len(counts) // n_rows, 1)
    return tuple(max(counts[row * width : (row + 1) * width], default=0) for row in range(n_rows))


def positions(memory: Memory) -> list[list[list[int]]]:
    """[row][kv head] → ordinals of all stored entries, ascending, those of demoted ones among them."""
    found = [Roll.of(memory).entries.ordinals] if writable(memory) else []
    found += [s.ordinals() for s in memory.segments if isinstance(s, Shared)]
    found += [s.held.entries().ordinals for s in memory.segments if isinstance(s, Demoted)]
    ordinals = torch.cat(found, -1).sort(-1).values
    return [[[o for o in head if o >= 0] for head in row] for row in ordinals.tolist()]


def live_groups(memory: Memory) -> list[int]:
    """Groups of entries that share parameters in every row, per head, rounded up."""
    coded = [segment for segment in memory.segments if isinstance(segment, Coded)]
    coded += [one for segment in memory.segments if isinstance(segment, Indexed) for one in segment.coded]
    if not coded:
        return [0] * len(memory.clock)
    rows = [sum(counts) for counts in zip(*(segment.groups_in_rows() for segment in coded), strict=True)]
    return [-(-groups // coded[0].shape[1]) for groups in rows]


def cropped(memory: Memory, n: int) -> Memory:
    """Without the last n tokens of every row, or of all it has, wherever they lie; statistics stay."""
    clock = tuple(max(seen - n, 0) for seen in memory.clock)
    if n > min(row_lengths(memory)) and any(isinstance(s, Shared) for s in memory.segments):
        memory = shared.apart(memory)
    memory = replace(memory, clock=clock, prompt=tuple(map(min, memory.prompt, clock)))
    memory = replace(memory, segments=tuple(_demoted_before(memory.segments, clock)))
    if not writable(memory):
        return memory
    roll = Roll.of(memory)
    edge = torch.tensor(clock, device=roll.entries.live.device)[:, None, None]
    stays = roll.entries.live & (roll.entries.ordinals < edge)
    return keep(memory, roll, Choice(stays), (True,) * len(clock))


def _demoted_before(segments: Sequence[Segment], clock: Sequence[int]) -> Iterator[Segment]:
    for segment in segments:
        left = segment.cropped(clock) if isinstance(segment, Demoted) else segment
        if left is not None:
            yield left


def reclaimed(memory: Memory) -> Memory:
    """The same memory, allowed to overwrite what a newer, abandoned value wrote behind its tail."""
    return replace(
        memory, segments=tuple(s.reclaimed() if isinstance(s, Tail) else s for s in memory.segments)
    )


def device(memory: Memory) -> torch.device:
    """Where the entries lie."""
    return next((named[2].device for _, named in tensors(memory)), torch.device("cpu"))


def rows(memory: Memory, index: Tensor, may_share: bool = False) -> Memory:
    """A memory whose row i is the old row index[i].

    may_share   rows that are the same may be held once, where that is worth while
    """
    order = index.tolist()
    if may_share and len(set(order)) < len(order) and shared.may_be(memory):
        return shared.share(memory, index)
    return Memory(
        tuple(segment.rows(index) for segment in memory.segments),  # type: ignore[misc]
        {name: stat[index] for name, stat in memory.stats.items()},
        tuple(memory.clock[i] for i in order),
        tuple(memory.prompt[i] for i in order),
    )


def tensors(memory: Memory) -> list[tuple[str, Named]]:
    """(segment kind, named tensor) of everything the memory holds."""
    held = [(segment.kind, named) for segment in memory.segments for named in segment.tensors()]
    held += [("stats", ("stats", stat.device.type, stat)) for stat in memory.stats.values()]
    return held
