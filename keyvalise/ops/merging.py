"""Losers on their way to keepers: where they lie, which keeper each goes to, and what it then holds.

Axes   B rows, H kv heads, T slots, K keepers and L losers (padded to the head that has the most)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.types.data import Entries, Scores

BLOCK_BYTES = 64 * 2**20
"""Most transient bytes of similarities, where those of one loser in every head are the least."""

MOST_LOGW = 60.0
"""The largest log-weight that is turned into a number of tokens, so that sums of them stay finite."""

FAR = torch.iinfo(torch.int32).max
"""An ordinal behind all others."""


@dataclass(frozen=True, slots=True)
class Places:
    """The marked slots of every head, ascending: slots int64 [B, H, n], is_real bool [B, H, n]."""

    slots: Tensor
    is_real: Tensor

    @staticmethod
    def of(mask: Tensor) -> Places:
        """mask bool [B, H, T]; the padding points at distinct slots that are not marked."""
        width = int(mask.sum(-1).max()) if mask.numel() else 0
        slots = torch.argsort(~mask, dim=-1, stable=True)[..., :width]
        return Places(slots, mask.gather(-1, slots))

    def take(self, x: Tensor) -> Tensor:
        """x [B, H, T] or [B, H, T, D] → [B, H, n] or [B, H, n, D]."""
        if x.dim() == 3:
            return x.gather(2, self.slots)
        return x.gather(2, self.slots[..., None].expand(*self.slots.shape, x.shape[-1]))


def counts(entries: Entries) -> Tensor:
    """How many tokens every entry stands for: float32 [B, H, T], one where it carries no log-weight."""
    ones = torch.ones(entries.live.shape, device=entries.live.device)
    return ones if entries.logw is None else weights(torch.where(entries.live, entries.logw, 0.0))


def weights(logw: Tensor) -> Tensor:
    """exp(logw), at most e⁶⁰."""
    return logw.clamp(max=MOST_LOGW).exp()


def masses(scores: Scores, live: Tensor) -> Tensor:
    """Scores as weights above zero.

    Shapes   values [B, H | 1, T], live bool [B, H, T] → [B, H, T]
    Formula  w_t = max(s_t, 10⁻⁶·max_j s_j); of logits their softmax; 1 for all where no score is positive
    """
    values = scores.values.expand(live.shape)
    is_free = live & ~torch.isneginf(values)
    if scores.kind == "logit":
        logits = torch.where(is_free, values, -math.inf)
        clean = torch.where(is_free, logits.softmax(-1), 0.0)
    else:
        clean = torch.where(is_free, values, 0.0).clamp(min=0.0)
    most = clean.amax(-1, keepdim=True)
    return torch.where(most > 0, torch.maximum(clean, most * 1e-6).clamp(min=1e-30), 1.0)


def nearest(ordinals: Tensor, keepers: Places, losers: Places) -> Tensor:
    """The slot of the keeper whose ordinal is closest, of two the later: int64 [B, H, L].

    −1 for padding, and where a head has no keeper.
    """
    n = keepers.is_real.sum(-1, keepdim=True)
    if not keepers.slots.shape[-1]:
        return torch.full_like(losers.slots, -1)
    held = keepers.take(ordinals).masked_fill(~keepers.is_real, FAR).contiguous()
    asked = losers.take(ordinals).contiguous()
    right = torch.searchsorted(held, asked)
    left = (right - 1).clamp(min=0)
    right = torch.minimum(right, (n - 1).clamp(min=0))
    is_right = held.gather(-1, right).long() - asked <= asked.long() - held.gather(-1, left)
    goal = keepers.slots.gather(-1, torch.where(is_right, right, left))
    return goal.masked_fill(~losers.is_real | (n == 0), -1)


def most_similar(keys: Tensor, values: Tensor, keepers: Places, losers: Places, zero: float) -> Tensor:
    """The slot of the keeper most like every loser in key and value, of equals the latest: int64 [B, H, L].

    Shapes   clean keys [B, H, T, D], values [B, H, T, Dv] float32
    Formula  argmax_c max(cos(k_t, k_c), 0)·max(cos(v_t, v_c), 0) where that exceeds `zero`, else −1
    Cost     K·L·(D + Dv) time per head; blocks of losers whose similarities take at most BLOCK_BYTES
    """
    n_rows, n_heads, n_keepers = keepers.slots.shape
    if not n_keepers or not losers.slots.shape[-1]:
        return torch.full_like(losers.slots, -1)
    units = [functional.normalize(x, dim=-1) for x in (keys, values)]
    ours, theirs = ([place.take(x) for x in units] for place in (losers, keepers))
    number = torch.arange(n_keepers, device=keys.device)
    step, found = max(1, BLOCK_BYTES // (20 * n_rows * n_heads * n_keepers)), []
    for begin in range(0, losers.slots.shape[-1], step):
        span = slice(begin, begin + step)
        by_key, by_value = (
            (a[:, :, span] @ b.transpose(-1, -2)).clamp_(min=0) for a, b in zip(ours, theirs, strict=True)
        )
        alike = by_key.mul_(by_value).masked_fill_(~keepers.is_real[:, :, None], -math.inf)
        best = alike.amax(-1, keepdim=True)
        winner = torch.where(alike == best, number, -1).amax(-1)
        found.append(keepers.slots.gather(-1, winner).masked_fill(best[..., 0] <= zero, -1))
    return torch.cat(found, -1).masked_fill(~losers.is_real, -1)


def poured(x: Tensor, losers: Places, goal: Tensor) -> Tensor:
    """Every slot's own x plus that of the losers that go there; x [B, H, T] or [B, H, T, D], finite."""
    slot = torch.where(goal < 0, x.shape[2], goal)
    # One more slot takes what goes nowhere.
    wide = torch.cat([x, x[:, :, :1]], 2)
    given = losers.take(x)
    slot = slot if x.dim() == 3 else slot[..., None].expand_as(given)
    return wide.scatter_add(2, slot, given)[:, :, :-1]


def pooled(x: Tensor, weights: Tensor, losers: Places, goal: Tensor) -> Tensor:
    """The weighted mean of every slot's own x and that of the losers that go there.

    Shapes   clean x [B, H, T, D], weights [B, H, T] > 0 → [B, H, T, D]
    """
    total = poured(weights, losers, goal)
    return poured(x * weights[..., None], losers, goal) / total[..., None]


def spread(given: Tensor, first: Tensor, last: Tensor, n: int) -> Tensor:
    """Sums over the losers, each of which gives the same to the keepers numbered first … last − 1.

    Shapes   given [B, H, L, D], first, last int64 [B, H, L] → [B, H, n, D]
    """
    steps = given.new_zeros((*given.shape[:2], n + 1, given.shape[-1]))
    begin, end = (edge[..., None].expand_as(given) for edge in (first, last))
    return steps.scatter_add_(2, begin, given).scatter_add_(2, end, -given).cumsum(2)[:, :, :-1]
