"""What has become old enough enters units: when, and which entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from keyvalise.store import flat, runs
from keyvalise.store.chosen import packed
from keyvalise.store.coded import Coded
from keyvalise.store.indexed import Indexed
from keyvalise.store.ragged import Ragged
from keyvalise.store.roll import Roll, writable
from keyvalise.store.tail import Tail
from keyvalise.types.data import Env, Memory
from keyvalise.types.retrieve import Retrieve
from keyvalise.types.segment import Writable
from keyvalise.types.slow import Slow


def settle(memory: Memory, retrieve: Retrieve, env: Env, rows: tuple[bool, ...], is_coded: bool) -> Memory:
    """Cut into units what lies before the newest tokens, in those of these rows whose prompt is over and that
    hold enough of it.

    is_coded   entries are written in a code, and those that are not yet are in no unit
    """
    loose = [segment for segment in writable(memory) if not isinstance(segment, Indexed)]
    coded = [segment for segment in loose if isinstance(segment, Coded)]
    sources: list[Writable] = [*coded] if is_coded else loose
    if _longest(sources) < retrieve.read.block:
        return memory
    roll = Roll.of(replace(memory, segments=tuple(sources)))
    ordinals, device = roll.entries.ordinals, roll.entries.live.device
    clocks = zip(memory.clock, memory.prompt, rows, strict=True)
    ends = [seen - retrieve.read.recent if mine and seen >= prompt else 0 for seen, prompt, mine in clocks]
    old = roll.entries.live & (ordinals < torch.tensor(ends, device=device)[:, None, None])
    n = (old & (ordinals >= retrieve.read.sinks)).sum(-1)
    old &= (n.amax(-1) >= retrieve.read.block)[:, None, None]
    if not bool(old.any()):
        return memory
    parts = list(zip(sources, roll.split(old, False), strict=True))
    new: runs.Near
    if is_coded:
        new = runs.together([runs.taken(run, mine) for run, (_, mine) in zip(coded, parts, strict=True)])
        left = [run.take(run.entries().live & ~mine) for run, (_, mine) in zip(coded, parts, strict=True)]
        rest: list[Writable] = [segment for segment in left if segment is not None]
        rest += [segment for segment in loose if not isinstance(segment, Coded)]
    else:
        new = Ragged.of(flat.join([one.flat(mine) for one, mine in parts]))  # type: ignore[attr-defined]
        raw = [one.flat(one.entries().live & ~mine) for one, mine in parts]  # type: ignore[attr-defined]
        rest = [packed(flat.join(raw), memory.clock)]
    frozen = [segment for segment in memory.segments if segment.frozen]
    known = [segment for segment in memory.segments if isinstance(segment, Indexed)]
    start = known[0] if known else Indexed(retrieve, env)
    env = replace(env, prompt=memory.prompt, seen=memory.clock)
    return replace(memory, segments=(*frozen, start.grown(new, env, memory.stats), *rest))


def placed(memory: Memory, slow: Slow) -> Memory:
    """The memory with entries in units where its reader wants them."""
    segments = tuple(one.placed(slow) if isinstance(one, Indexed) else one for one in memory.segments)
    return replace(memory, segments=segments)


def foresee(memory: Memory) -> None:
    """Begin to bring near what the next step of this layer reads, whatever it asks."""
    for segment in memory.segments:
        if isinstance(segment, Indexed):
            segment.foresee()


def _longest(segments: Sequence[Writable]) -> int:
    """No less than any head holds in these, without asking the device."""
    longest = [one.longest if isinstance(one, Tail) else max(one.counts) for one in segments]  # type: ignore[attr-defined]
    return sum(longest)
