"""Which level each chunk is sent at, or whether its text is computed again: a deadline against a link.

    link       chunk i has come at  c_i = c_{i−1} + bytes_i / bandwidth
    compute    and is ready at      r_i = max(c_i, r_{i−1}) + bytes_i / decoding; text: + tokens_i / prefill

Of the levels, the finest at which all that is left would be ready in time; the text of some chunks where not
even the smallest level would; what is ready first where nothing would. Asked anew before every chunk, with
what is left of the time and the bandwidth measured so far.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from keyvalise.types.errors import BadArgument, DamagedStream

TEXT = "text"
"""The choice to send a chunk's text."""

_KEPT = 4
"""Measurements that count."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One chunk: level → bytes, the smallest level first;  tokens;  bytes of its text, 0: it is there."""

    levels: Mapping[str, int]
    tokens: int
    text: int = 0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a sender has: every chunk, and what is known → level → bytes that all chunks share beyond that."""

    offers: tuple[Offer, ...]
    shared: Mapping[str, Mapping[str, int]]

    def to_bytes(self) -> bytes:
        """As JSON."""
        offers = [[dict(one.levels), one.tokens, one.text] for one in self.offers]
        shared = {have: dict(sizes) for have, sizes in self.shared.items()}
        return json.dumps({"offers": offers, "shared": shared}, separators=(",", ":")).encode()

    @staticmethod
    def parse(data: bytes) -> Catalogue:
        """The same again.

        Raises   DamagedStream for anything else
        """
        try:
            told = json.loads(data)
            offers = [Offer(_sizes(a), int(b), int(c)) for a, b, c in told["offers"]]
            shared = {str(have): _sizes(sizes) for have, sizes in told["shared"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DamagedStream("what the link offers is no catalogue of a cache") from None
        return Catalogue(tuple(offers), shared)


def _sizes(told: Mapping[str, int]) -> dict[str, int]:
    return {str(name): int(size) for name, size in told.items()}


@dataclass(frozen=True, slots=True)
class Controller:
    """A deadline and what is known of link and machine.

    deadline_s  from the start of the clock;  prefill tokens per second, None: text cannot be computed again
    decoding    bytes of a stream per second;  bandwidth: bytes per second before anything was measured, None:
                the first chunk is sent at the smallest level
    least       bytes per second that the link never falls below; with it the deadline holds whatever the
                link does above that, if the smallest level holds it
    measured    bandwidths of the last chunks, newest last
    """

    deadline_s: float
    prefill: float | None = None
    decoding: float = float("inf")
    bandwidth: float | None = None
    least: float | None = None
    measured: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("deadline_s", "prefill", "decoding", "bandwidth", "least"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadArgument(name, value, "above 0")

    @property
    def estimate(self) -> float | None:
        """Bytes per second to be expected: the harmonic mean of what was measured, or the first guess."""
        if not self.measured:
            return self.bandwidth
        return len(self.measured) / sum(1 / rate for rate in self.measured)

    def observe(self, n_bytes: int, seconds: float) -> Controller:
        """The controller after a transfer."""
        if n_bytes <= 0 or seconds <= 0:
            return self
        return replace(self, measured=(*self.measured, n_bytes / seconds)[-_KEPT:])

    def choose(
        self, left: Sequence[Offer], now_s: float, ready_s: float, shared: Mapping[str, int] | None = None
    ) -> str:
        """The level of the next chunk, or TEXT.

        left     the chunks that are not sent, the next one first;  now_s: the clock
        ready_s  when everything sent so far will be ready
        shared   level → bytes that come before the first chunk of that level, once
        """
        names, shared = list(left[0].levels), shared or {}
        if self.estimate is None:
            return names[0]
        now = _Now(self.estimate, now_s, ready_s, shared)
        for name in reversed(names):
            is_in_time = self.ready(left, [name] * len(left), now) <= self.deadline_s
            if is_in_time and (name == names[0] or self._is_safe(left, name, now)):
                return name
        plans = [[names[0]] * len(left)]
        if self.prefill is not None:
            # Text first: it is computed while the rest comes.
            plans += [[TEXT] * n + [names[0]] * (len(left) - n) for n in range(1, len(left) + 1)]
        times = [self.ready(left, plan, now) for plan in plans]
        in_time = [plan for plan, time in zip(plans, times, strict=True) if time <= self.deadline_s]
        return (in_time[0] if in_time else plans[times.index(min(times))])[0]

    def ready(self, left: Sequence[Offer], plan: Sequence[str], now: _Now) -> float:
        """When everything is ready if these chunks are sent so."""
        come, ready, missing = now.clock_s, now.ready_s, dict(now.shared)
        for offer, name in zip(left, plan, strict=True):
            n_bytes = offer.text if name == TEXT else offer.levels[name] + missing.get(name, 0)
            if name != TEXT:
                # What a level shares, all smaller ones have as well.
                spent = missing.get(name, 0)
                missing = {other: max(0, size - spent) for other, size in missing.items()}
            come += n_bytes / now.bandwidth
            work = offer.tokens / (self.prefill or 1) if name == TEXT else n_bytes / self.decoding
            ready = max(come, ready) + work
        return ready

    def _is_safe(self, left: Sequence[Offer], name: str, now: _Now) -> bool:
        """Whether the smallest level of all later chunks would be in time even on the slowest link."""
        if self.least is None:
            return True
        plan = [name, *[next(iter(left[0].levels))] * (len(left) - 1)]
        return self.ready(left, plan, replace(now, bandwidth=self.least)) <= self.deadline_s


@dataclass(frozen=True, slots=True)
class _Now:
    """Where things stand: bytes per second, the clock, when what was sent is ready, what is still shared."""

    bandwidth: float
    clock_s: float
    ready_s: float
    shared: Mapping[str, int]
