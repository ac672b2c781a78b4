"""Bytes of contexts on a tier: put under a key and its tokens, found again by the longest common beginning.

Knows keys and records, no cache and no model. Every process may do anything at any time: an object is
published before the record that leads to it, and a record is taken back before its object.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyvalise.store.keys import CHUNK, Chain, Key
from keyvalise.store.tiers import census, record
from keyvalise.store.tiers import tier as tiers
from keyvalise.store.tiers.census import Holding
from keyvalise.store.tiers.record import Record
from keyvalise.store.tiers.tier import Tier
from keyvalise.types.errors import StoreError

SHARE, CEILING = 0.10, 20 * 10**9
"""A store without a bound of its own takes this share of what is free, itself included, and never more bytes
than the ceiling.
"""

GRACE_S = 3600.0
"""What looks abandoned is somebody's work in progress for so long."""

TRIES = 3
"""An eviction elsewhere may take away what was just published; so often it is published again."""

REMEMBERED = 1024
"""Records kept in memory; a name stands for one content, so they never go stale."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Bytes that stand for a request's first tokens, once cropped to them. record: what the bytes hold"""

    n_tokens: int
    data: bytes
    record: Record


@dataclass(slots=True)
class Counts:
    """What this process did with a shelf, since it was opened."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    kept: int = 0
    evicted: int = 0
    damaged: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Shelf:
    """A tier with a bound.

    max_bytes   objects and records together; None: SHARE of what is free on the tier, at most CEILING
    chunk       tokens per chunk; shelves with other chunks find nothing of each other
    """

    def __init__(self, tier: Tier, max_bytes: int | None = None, chunk: int = CHUNK):
        if chunk < 1:
            raise StoreError(f"chunk must be at least 1, got {chunk}")
        if max_bytes is not None and max_bytes < 1:
            raise StoreError(f"max_bytes must be at least 1, got {max_bytes}")
        self.tier, self.chunk, self.counts = tier, chunk, Counts()
        self._max_bytes = max_bytes
        self._records: dict[str, Record] = {}

    @property
    def max_bytes(self) -> int:
        """The bound, which a shelf without one finds when it is first asked."""
        if self._max_bytes is None:
            free = self.tier.free_bytes()
            own = 0 if free is None else tiers.total(self.tier.entries(f"{record.ROOT}/"))
            self._max_bytes = CEILING if free is None else min(int((free + own) * SHARE), CEILING)
        return self._max_bytes

    def put(
        self,
        key: Key,
        tokens: Sequence[int],
        make: Callable[[], bytes],
        *,
        is_croppable: bool,
        about: Mapping[str, str] | None = None,
    ) -> str:
        """The name of the object that holds the bytes of a context; `make` is asked only if there is none.

        is_croppable   whether the bytes can be cropped, exactly, to any chunk's end

        Raises   StoreError for bytes beyond the bound
        """
        chain = Chain.of(key, tokens, self.chunk)
        if known := self._held(key.tenant, chain):
            self.counts.kept += 1
            return known
        data = make()
        name = record.object_name(key.tenant, data)
        entry = Record(
            name.rpartition("/")[2],
            len(data),
            chain.n_tokens,
            chain.chunks,
            chain.tail(chain.n_tokens),
            is_croppable,
            {"recipe": key.recipe, "model": key.model, "dtype": key.dtype, **(about or {})},
        )
        self._publish(name, data, record.record_name(key.tenant, chain.family, entry), entry.to_bytes())
        self.counts.puts += 1
        self.counts.bytes_written += len(data)
        return entry.object

    def _held(self, tenant: str, chain: Chain) -> str | None:
        """The object that holds exactly this context, marked as used."""
        for one in self._family(tenant, chain.family):
            is_same = one.n_tokens == chain.n_tokens == one.serves(chain)
            name = f"{record.ROOT}/{tenant}/object/{one.object}"
            if is_same and self.tier.find(name):
                self.tier.touch(name)
                return one.object
        return None

    def _publish(self, name: str, data: bytes, record_name: str, entry: bytes) -> None:
        need = len(data) + len(entry)
        if need > self.max_bytes:
            raise StoreError(
                f"a cache of {need:,} bytes does not fit into the store {self.tier.uri}, which is bounded to "
                f"{self.max_bytes:,}; open it with a larger max_bytes"
            )
        for _ in range(TRIES):
            self._make_room(need)
            self.tier.put(name, data)
            self.tier.put(record_name, entry)
            if self.tier.find(name) and self.tier.find(record_name):
                return

    def _make_room(self, n_bytes: int) -> None:
        """Remove what `census.victims` names; what somebody used since it was counted stays for this time."""
        for _ in range(TRIES):
            held = census.taken(self.tier)
            chosen = census.victims(held, n_bytes, self.max_bytes)
            if chosen:
                self.tier.sweep(GRACE_S)
            spared = [one for one in chosen if not self._evict(one)]
            if not spared:
                return

    def _evict(self, holding: Holding) -> bool:
        now = holding.object and self.tier.find(holding.object.name)
        if now and now.used_s > holding.used_s:
            return False
        census.remove(self.tier, holding)
        self.counts.evicted += 1
        return True

    def longest(self, key: Key, tokens: Sequence[int], *, is_whole: bool = False) -> Hit | None:
        """What stands for the most of the first tokens; is_whole: for all of them or nothing."""
        chain, tenant = Chain.of(key, tokens, self.chunk), key.tenant
        found = [
            (one.serves(chain), -one.n_bytes, one.object, one)
            for family in chain.families
            for one in self._family(tenant, family)
        ]
        for n_tokens, _, _, one in sorted(found, key=lambda row: row[:3], reverse=True):
            if n_tokens == 0 or (is_whole and n_tokens < chain.n_tokens):
                break
            name = f"{record.ROOT}/{tenant}/object/{one.object}"
            data = self.read(name)
            if data is not None:
                self.tier.touch(name)
                self.counts.hits += 1
                return Hit(n_tokens, data, one)
        self.counts.misses += 1
        return None

    def read(self, name: str) -> bytes | None:
        """The bytes of an object if they are those it is named by; damaged ones are removed and reported."""
        for _ in range(2):
            data = self.tier.get(name)
            if data is None:
                return None
            self.counts.bytes_read += len(data)
            if hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]:
                return data
        self._condemn(name)
        return None

    def _condemn(self, name: str) -> None:
        self.counts.damaged += 1
        self.tier.delete(name)
        warnings.warn(f"{name} in the store {self.tier.uri} was damaged and has been removed", stacklevel=3)

    def _family(self, tenant: str, family: str) -> list[Record]:
        """The records of a family; those that were read before are remembered."""
        names = self.tier.names(record.family_prefix(tenant, family))
        return [one for one in self.records(names) if one is not None]

    def records(self, names: Sequence[str]) -> list[Record | None]:
        """The records under names, None where one is gone or damaged."""
        unread = [name for name in names if name not in self._records]
        for name, data in zip(unread, self.tier.get_many(unread), strict=True):
            found = None if data is None else Record.read(name, data)
            if found is not None:
                self._records[name] = found
            elif data is not None:
                self._condemn(name)
        known = [self._records.get(name) for name in names]
        for name in list(self._records)[:-REMEMBERED]:
            self._records.pop(name, None)
        return known
