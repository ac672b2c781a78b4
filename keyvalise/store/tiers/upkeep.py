"""Looking after a shelf: what lies there, taking things away, and removing what crashes have left.

Tenants are shown as hashes of their salts. Nothing here reads what was stored, except to see whether it is
whole.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keyvalise.store import keys
from keyvalise.store.tiers import census
from keyvalise.store.tiers.census import Holding
from keyvalise.store.tiers.record import Record
from keyvalise.store.tiers.shelf import GRACE_S, Counts, Shelf
from keyvalise.store.tiers.tier import Entry
from keyvalise.types.errors import StoreError

SHORTEST = 6
"""Digits that a name must be given with to be removed."""


@dataclass(frozen=True)
class Row:
    """One stored context. object, tenant: hashes;  used_s: Unix time of its last use"""

    object: str
    tenant: str
    recipe: str
    model: str
    n_tokens: int
    n_bytes: int
    used_s: float
    is_croppable: bool


@dataclass(kw_only=True)
class Stats(Counts):
    """What lies in a store, and what this process did with it: a hit counts where bytes were served."""

    uri: str
    n_objects: int
    n_bytes: int
    n_tenants: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed: drafts of dead writers, objects that nothing leads to, records that lead to nothing,
    damaged objects, and whole ones for the bound.
    """

    drafts: int
    orphans: int
    dangling: int
    damaged: int
    evicted: int
    n_bytes: int


def rows(shelf: Shelf, salt: str | None = None) -> list[Row]:
    """What is stored, the last used first; with a salt only what is that tenant's. Contexts whose bytes are
    equal share an object.
    """
    held = [one for one in reversed(census.taken(shelf.tier, _tenant(salt))) if one.is_whole]
    led = [(one, entry) for one in held for entry in one.records]
    found = shelf.records([entry.name for _, entry in led])
    return [
        _row(one, entry, known) for (one, entry), known in zip(led, found, strict=True) if known is not None
    ]


def _row(one: Holding, entry: Entry, known: Record) -> Row:
    assert one.object is not None
    about, n_bytes = known.about, one.object.n_bytes + entry.n_bytes
    return Row(
        one.name,
        one.tenant,
        about.get("recipe", ""),
        about.get("model", ""),
        known.n_tokens,
        n_bytes,
        one.used_s,
        known.is_croppable,
    )


def stats(shelf: Shelf, salt: str | None = None) -> Stats:
    """Counts of what is stored, of all tenants or of one, and of what this process did."""
    held = [one for one in census.taken(shelf.tier, _tenant(salt)) if one.is_whole]
    return Stats(
        **dataclasses.asdict(shelf.counts),
        uri=shelf.tier.uri,
        n_objects=len(held),
        n_bytes=sum(one.n_bytes for one in held),
        n_tenants=len({one.tenant for one in held}),
        max_bytes=shelf.max_bytes,
    )


def remove(shelf: Shelf, names: Sequence[str], salt: str | None = None) -> list[Holding]:
    """Remove the objects whose names begin so, in any tenant or in one.

    Raises   StoreError where a name fits none or several, or is too short; then nothing is removed
    """
    held = census.taken(shelf.tier, _tenant(salt))
    chosen = [_named(held, name) for name in names]
    return clear(shelf, chosen)


def clear(shelf: Shelf, held: Iterable[Holding]) -> list[Holding]:
    """Remove these, each once."""
    chosen = {(one.tenant, one.name): one for one in held}
    for one in chosen.values():
        census.remove(shelf.tier, one)
    return list(chosen.values())


def everything(shelf: Shelf, salt: str | None = None) -> list[Holding]:
    """All there is, or all of one tenant."""
    return census.taken(shelf.tier, _tenant(salt))


def gc(
    shelf: Shelf, grace_s: float = GRACE_S, max_bytes: int | None = None, *, is_thorough: bool = False
) -> Collected:
    """Remove what nobody can use, once it has been so for `grace_s` seconds.

    max_bytes     also remove what was not used for longest, until no more than this is left
    is_thorough   also read every object, and remove those whose bytes are not those they are named by
    """
    swept, edge = shelf.tier.sweep(grace_s), time.time() - grace_s
    damaged = _damaged(shelf) if is_thorough else []
    held = census.taken(shelf.tier)
    lost = [one for one in held if not one.is_whole and one.used_s <= edge]
    whole = [one for one in held if one.is_whole]
    evicted = [] if max_bytes is None else census.victims(whole, 0, max_bytes)
    clear(shelf, [*lost, *evicted])
    return Collected(
        drafts=swept.n_drafts,
        orphans=sum(one.object is not None for one in lost),
        dangling=sum(one.object is None for one in lost),
        damaged=len(damaged),
        evicted=len(evicted),
        n_bytes=swept.n_bytes + sum(one.n_bytes for one in [*damaged, *lost, *evicted]),
    )


def _damaged(shelf: Shelf) -> list[Holding]:
    """Objects whose bytes are others than their names say; with what leads to them they are gone then."""
    found = []
    for one in census.taken(shelf.tier):
        if one.object is None:
            continue
        before = shelf.counts.damaged
        shelf.read(one.object.name)
        if shelf.counts.damaged > before:
            found.append(one)
    return clear(shelf, found)


def _named(held: Sequence[Holding], name: str) -> Holding:
    if len(name) < SHORTEST:
        raise StoreError(f"{name!r} is too short to name an object; give at least {SHORTEST} digits")
    fits = [one for one in held if one.name.startswith(name)]
    if len(fits) != 1:
        what = f"{len(fits)} objects begin" if fits else "no object begins"
        raise StoreError(f"{what} with {name!r}; `keyvalise store ls` shows their names")
    return fits[0]


def _tenant(salt: str | None) -> str | None:
    return None if salt is None else keys.tenant(salt)
