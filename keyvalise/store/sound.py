"""Whether a memory that was read holds what it says: as many entries as it counts, places before its clock.

A digest tells that a file is what was written, not that a writer knew what to write; compiled reading trusts
counts, so that nothing unsound may get there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.store.sketched import Sketched
from keyvalise.store.tail import Tail
from keyvalise.store.tokens import Tokens
from keyvalise.types.data import Memory
from keyvalise.types.errors import Damaged
from keyvalise.types.geometry import Geometry


def check(memory: Memory, geometry: Geometry, what: str) -> None:
    """Raise Damaged where something does not fit."""
    n_rows = len(memory.clock)
    _must(what, "prompt", len(memory.prompt), n_rows)
    for name, stat in memory.stats.items():
        _must(what, f"the rows of {name}", stat.shape[:1], (n_rows,))
    for segment in memory.segments:
        checks = _CHECKS.get(type(segment))
        if checks is not None:
            checks(segment, (n_rows, geometry.n_kv_heads), memory.clock, geometry, f"{what}, {segment.kind}")


def _must(what: str, name: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise Damaged(f"{what}: {name} is {_plain(got)}, must be {_plain(wanted)}")


def _need(what: str, is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Damaged(f"{what}: {otherwise}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _places(places: Places, shape: tuple[int, int], clock: tuple[int, ...], what: str) -> int:
    """How many entries there are."""
    _must(what, "the rows of its places", places.shape[0], shape[0])
    _need(what, places.shape[1] in (1, shape[1]), "its places have neither one head nor all")
    _must(what, "counts", len(places.counts), places.shape[0] * places.shape[1])
    _must(what, "starts", len(places.starts), shape[0])
    _need(what, min(places.counts, default=0) >= 0, "a count is less than nothing")
    n_heads = places.shape[1]
    gaps = [start is None for start in places.starts for _ in range(n_heads)]
    listed = sum(n for n, is_listed in zip(places.counts, gaps, strict=True) if is_listed)
    _must(what, "the number of listed places", tuple(places.listed.shape), (listed,))
    ordinals = places.all()
    if len(ordinals):
        is_seen = int(ordinals.min()) >= 0 and int(ordinals.max()) < max(clock)
        _need(what, is_seen, "an entry stands where nothing has been seen")
    return sum(places.counts)


def _more(logw: Tensor | None, columns: Mapping[str, Tensor], n: int, what: str) -> None:
    named = {"log-weights": logw, **columns}
    for name, tensor in named.items():
        if tensor is not None:
            _must(what, f"the length of {name}", tuple(tensor.shape), (n,))


def _tail(tail: Tail, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str) -> None:
    keys, values = tail.arena.keys, tail.arena.values
    _must(what, "the rows and heads", tuple(keys.shape[:2]), shape)
    _must(what, "the size of keys", (keys.shape[3], keys.dtype), (geometry.key_dim, geometry.dtype))
    _must(what, "values", tuple(values.shape), (*keys.shape[:3], geometry.value_dim))
    _must(what, "lengths", (len(tail.lengths_), len(tail.starts)), (shape[0], shape[0]))
    _need(what, min(tail.lengths_) >= tail.n_head >= 0, "it is shorter than what was kept")
    ends = zip(tail.lengths_, tail.starts, clock, strict=True)
    is_seen = all(length - tail.n_head + start <= seen for length, start, seen in ends)
    _need(what, is_seen, "an entry stands where nothing has been seen")
    if tail.head is not None:
        _places(tail.head, shape, clock, what)
        _must(what, "how many were kept", set(tail.head.counts), {tail.n_head})
    if tail.logw is not None:
        _must(what, "log-weights", tuple(tail.logw.shape), (*shape, tail.n_head))
    for name, column in tail.columns.items():
        is_short = column.shape[:2] == keys.shape[:2] and column.shape[2] <= tail.longest
        _need(what, is_short, f"{name} does not fit")


def _ragged(
    run: Ragged, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str
) -> None:
    n = _places(run.places, shape, clock, what)
    _must(what, "the rows and heads", run.shape, shape)
    _must(what, "bounds", run.bounds, flat.bounds_of(run.counts))
    _must(what, "keys", (tuple(run.keys.shape), run.keys.dtype), ((n, geometry.key_dim), geometry.dtype))
    _must(
        what, "values", (tuple(run.values.shape), run.values.dtype), ((n, geometry.value_dim), geometry.dtype)
    )
    _more(run.logw, run.columns, n, what)


def _coded(
    code: Coded, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str
) -> None:
    n = _places(code.places, shape, clock, what)
    _must(what, "the rows and heads", code.shape, shape)
    for name, tensor in code.codes.entry.items():
        _must(what, f"the length of {name}", tensor.shape[:1], (n,))
    for name, tensor in code.codes.home.items():
        _must(what, f"the homes of {name}", tensor.shape[:1], (shape[0] * shape[1],))
    n_groups = n // code.codec.group
    if code.group_of is not None:
        _must(what, "the groups of entries", tuple(code.group_of.shape), (n,))
        n_groups = int(code.group_of.max()) + 1 if n else 0
        _need(what, not n or int(code.group_of.min()) >= 0, "a group is counted from below 0")
    for name, tensor in code.codes.group.items():
        _need(what, tensor.shape[0] >= n_groups, f"{name} lacks groups")
    _more(code.logw, code.columns, n, what)


def _tokens(
    code: Tokens, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str
) -> None:
    n = _places(code.places, shape, clock, what)
    _must(what, "the heads of its places", code.places.shape[1], 1)
    for name, tensor in code.codes.items():
        _must(what, f"the length of {name}", tensor.shape[:1], (n,))


def _demoted(
    segment: Demoted, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str
) -> None:
    _coded(segment.held, shape, clock, geometry, what)
    if segment.balance is not None:
        _must(what, "its balance", tuple(segment.balance.shape), (*shape, geometry.key_dim))


def _sketched(
    segment: Sketched, shape: tuple[int, int], clock: tuple[int, ...], geometry: Geometry, what: str
) -> None:
    held = segment.sketch
    size = (sum(segment.holds), shape[1], *held.logw.shape[2:])
    _must(what, "rows", len(segment.holds), shape[0])
    _must(what, "log-weights", tuple(held.logw.shape), size)
    _must(what, "keys", tuple(held.keys.shape), (*size, geometry.key_dim))
    _must(what, "values", tuple(held.values.shape), (*size, geometry.value_dim))


_CHECKS: dict[type, Callable[..., None]] = {
    Tail: _tail,
    Ragged: _ragged,
    Coded: _coded,
    Demoted: _demoted,
    Tokens: _tokens,
    Sketched: _sketched,
}
