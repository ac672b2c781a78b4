"""Losers in a code of their own, as a segment: read by every query, judged by nobody, never dropped.

Knows the code only by its protocol. What was raw is coded once; what was in another code before is decoded
and coded again, which happens to an entry once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.joining import joined
from keyvalise.store.roll import Roll
from keyvalise.types.code import Encode
from keyvalise.types.data import Env, Memory, Partial, Queries
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Demoted:
    """The losers of the act that bears this name.

    balance   float16 [B, H, D]: keys were multiplied by it before they were coded; None: by nothing
    """

    held: Coded
    balance: Tensor | None
    act: str

    kind: ClassVar[str] = "demoted"
    frozen: ClassVar[bool] = True

    @property
    def counts(self) -> tuple[int, ...]:
        return self.held.counts

    def attend(self, queries: Queries) -> tuple[Partial, Demoted]:
        """q·(k·b)/b: the queries are divided, so that no key has to be."""
        if self.balance is not None:
            scale = self.balance.float().repeat_interleave(queries.geometry.group, 1)
            queries = replace(queries, q=queries.q.float() / scale[:, :, None])
        return self.held.attend(queries)[0], self

    def rows(self, index: Tensor) -> Demoted:
        balance = None if self.balance is None else self.balance[index]
        return Demoted(self.held.rows(index), balance, self.act)

    def cropped(self, clock: Sequence[int]) -> Demoted | None:
        """Without the entries whose ordinals reach their row's clock; None where nothing is left."""
        entries = self.held.entries()
        edge = torch.tensor(clock, device=entries.live.device)[:, None, None]
        held = self.held.take(entries.live & (entries.ordinals < edge))
        return None if held is None else replace(self, held=held)

    def tensors(self) -> Iterable[Named]:
        yield from self.held.tensors()
        if self.balance is not None:
            yield "scales", self.balance.device.type, self.balance


@dataclass(frozen=True, slots=True)
class Tier:
    """The act whose losers are kept, and the code in which they are written."""

    act: str
    code: Encode


def demote(memory: Memory, roll: Roll, lost: Tensor, env: Env, tier: Tier) -> Memory:
    """The memory with the entries `lost`, bool [B, H, T], written in the tier; the others still hold them."""
    entries, act = roll.entries, tier.act
    if not bool(lost.any()):
        return memory
    others = tuple(s for s in memory.segments if not (isinstance(s, Demoted) and s.act == act))
    before = next((s for s in memory.segments if isinstance(s, Demoted) and s.act == act), None)
    counts = tuple(lost.sum(-1).flatten().tolist())
    shape = (lost.shape[0], lost.shape[1])
    keys = entries.keys()[lost]
    balance = _balance(memory, before, shape)
    if balance is not None:
        homes = torch.arange(len(counts), device=lost.device).repeat_interleave(
            torch.tensor(counts, device=lost.device)
        )
        keys = keys.float() * balance.float().flatten(0, 1)[homes]
    logw = None if entries.logw is None else entries.logw[lost]
    run = flat.Flat(shape, counts, keys, entries.values()[lost], entries.ordinals[lost], logw, {})
    held = Coded.of(tier.code, env, run, *([] if before is None else [before.held]))
    if before is not None:
        held = joined([before.held, held])
    return replace(memory, segments=(Demoted(held, balance, act), *others))


def _balance(memory: Memory, before: Demoted | None, shape: tuple[int, int]) -> Tensor | None:
    """√(max |q| / max |k|) of heads that demote for the first time; of the others what it was."""
    most_q, most_k = memory.stats.get("extreme_q"), memory.stats.get("extreme_k")
    if most_q is None or most_k is None:
        return None if before is None else before.balance
    ratio = (most_q / most_k.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()
    is_known = (most_q > 0) & (most_k > 0)
    balance = torch.where(is_known, ratio.clamp(*LIMITS), 1.0).half()
    if before is None or before.balance is None:
        return balance
    is_new = torch.tensor(before.counts, device=balance.device).view(*shape, 1) == 0
    return torch.where(is_new, balance, before.balance)


LIMITS = (2.0**-8, 2.0**8)
"""Between which a channel is scaled, so that float16 holds what comes of it."""
