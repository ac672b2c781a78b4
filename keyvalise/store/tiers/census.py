"""What lies on a tier, counted from one listing: objects with the records that lead to them, and which go
first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from keyvalise.store.tiers import tier as tiers
from keyvalise.store.tiers.record import ROOT
from keyvalise.store.tiers.tier import Entry, Tier

TRIAL = 0.35
"""The share of the bound that objects may take which nobody has asked for since they were put. With none, a
flood of contexts that never come again would wash out those that do; with all, every conversation would keep
the beginnings that its later turns contain.
"""


@dataclass(slots=True)
class Holding:
    """An object and the records that lead to it; either may be missing for a moment, or after a crash.

    tenant   whose it is;  name: the object's SHA-256
    """

    tenant: str
    name: str
    object: Entry | None = None
    records: list[Entry] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """Records before the object: the order in which they vanish."""
        return [*self.records, *([] if self.object is None else [self.object])]

    @property
    def n_bytes(self) -> int:
        return tiers.total(self.entries)

    @property
    def used_s(self) -> float:
        """When any of it was used last."""
        return max(entry.used_s for entry in self.entries)

    @property
    def was_used(self) -> bool:
        """Whether it was asked for since it was put; a record is published behind it and never touched."""
        return self.is_whole and self.used_s > max(entry.used_s for entry in self.records)

    @property
    def is_whole(self) -> bool:
        return self.object is not None and bool(self.records)


def taken(tier: Tier, tenant: str | None = None) -> list[Holding]:
    """Everything on a tier, or everything of one tenant; the longest unused first."""
    found: dict[tuple[str, str], Holding] = {}
    for entry in tier.entries(f"{ROOT}/" if tenant is None else f"{ROOT}/{tenant}/"):
        match entry.name.split("/"):
            case [_, owner, "object", name]:
                found.setdefault((owner, name), Holding(owner, name)).object = entry
            case [_, owner, "index", _, record]:
                name = record.partition(".")[0]
                found.setdefault((owner, name), Holding(owner, name)).records.append(entry)
    return sorted(found.values(), key=lambda one: (one.used_s, one.tenant, one.name))


def remove(tier: Tier, holding: Holding) -> None:
    """Take an object back: first what leads to it, then its bytes."""
    for entry in holding.entries:
        tier.delete(entry.name)


def victims(held: Sequence[Holding], n_bytes: int, max_bytes: int) -> list[Holding]:
    """What must go so that so many bytes more keep the bound, out of everything there is, oldest first.

    In each of two lines the longest unused goes first. Objects on trial go while they take more than TRIAL of
    the bound, the new one among them; then those that somebody came back for.
    """
    excess = sum(one.n_bytes for one in held) + n_bytes - max_bytes
    trial = deque(one for one in held if not one.was_used)
    proven = deque(one for one in held if one.was_used)
    on_trial, chosen = sum(one.n_bytes for one in trial) + n_bytes, []
    while excess > 0 and (trial or proven):
        is_trial = bool(trial) and (not proven or on_trial > TRIAL * max_bytes)
        one = (trial if is_trial else proven).popleft()
        on_trial -= one.n_bytes if is_trial else 0
        excess -= one.n_bytes
        chosen.append(one)
    return chosen
