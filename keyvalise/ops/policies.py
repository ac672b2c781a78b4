"""Nested policies of a head, as tiers: the first policy that keeps an entry, and what every policy loses.

    0 special   1 punctuation   2 frequent   3 local   4 the rest

The policy k keeps the tiers 0 … k; policy 4 keeps everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.ops import topk
from keyvalise.types.data import Entries, Stretch

SPECIAL, PUNCTUATION, FREQUENT, LOCAL, REST = range(5)

NAMES = ("special", "punctuation", "frequent", "local", "everything")
"""What the policies keep beside all before them."""

OF_CLASS = (REST, SPECIAL, PUNCTUATION)
"""The tier of every class of tokens: 0 plain, 1 special, 2 punctuation."""


def arrived(entries: Entries, old: Tensor, ids: Tensor, stretch: Stretch, classes: Tensor) -> Tensor:
    """The tiers of entries, of which the tokens of a stretch have just arrived with those of their classes.

    Shapes   old [B, H, T], ids int64 [B, S], classes int [V] → float32 [B, H, T]; an id beyond V is plain
    """
    edges = torch.tensor([stretch.starts, stretch.leads], device=ids.device)
    starts, leads = edges[:, :, None, None]
    place = (entries.ordinals - starts + leads).clamp(0, ids.shape[1] - 1).long()
    token = ids.gather(1, place.flatten(1)).view(place.shape)
    kind = torch.where(token < len(classes), classes[token.clamp(max=len(classes) - 1)].long(), 0)
    new = torch.tensor(OF_CLASS, device=ids.device, dtype=torch.float32)[kind]
    before = torch.where(entries.live, old, float(REST))
    return torch.where(entries.live & (entries.ordinals >= starts), new, before)


def tiers(entries: Entries, kinds: Tensor, received: Tensor, sizes: Tensor, seen: Tensor) -> Tensor:
    """The tier of every entry as of now: float32 [B, H, T], REST in dead slots.

    Shapes   kinds [B, H, T]: below FREQUENT for classes of their own, which nothing changes; received
             [B, H, T]: attention so far; sizes int [2, B]: of frequent and local; seen int [B]: tokens so far
    Formula  frequent: the sizes[0] highest received of the entries without a class; local: of the others
             those among the newest sizes[1] tokens
    """
    has_class = entries.live & (kinds < FREQUENT)
    is_open = entries.live & ~has_class
    counts = sizes[0][:, None].expand(-1, kinds.shape[1])
    often = topk.top(received, counts, torch.zeros_like(is_open), is_open)
    is_new = is_open & (entries.ordinals >= (seen - sizes[1])[:, None, None])
    found = torch.where(is_new, float(LOCAL), float(REST))
    found = torch.where(often, float(FREQUENT), found)
    return torch.where(has_class, kinds, found)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of the heads of a layer since the prompt ended.

    Shapes   lost float32 [B, H, 4]: share of attention that policies 0 … 3 leave out;  held int32 [B, H, 5]:
             entries of every tier, before any was dropped;  policy int32 [B, H]: the one that is followed, −1
             before decoding begins
    """

    lost: Tensor
    held: Tensor
    policy: Tensor


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of every entry: attention received so far, of it from queries to which it was local, and
    its tier, each [B, H, T].
    """

    received: Tensor
    close: Tensor
    tier: Tensor


def advanced(
    known: Profile, entries: Entries, marks: Marks, stretch: Stretch, prompts: Sequence[int], *, sizes: Tensor
) -> tuple[Profile, Tensor]:
    """Profile and tiers after a stretch of tokens: new ones where a row's prompt goes on, else as they were.

    prompts   tokens of every row's prompt;  sizes int [2, B]: of frequent and local
    """
    device, tier = entries.live.device, marks.tier
    rows = list(zip(stretch.starts, stretch.counts, prompts, strict=True))
    in_prompt = [n > 0 and start < end for start, n, end in rows]
    in_decode = [n > 0 and start >= end for start, n, end in rows]
    if any(in_decode):
        starts = torch.tensor(stretch.starts, device=device)[:, None, None]
        known = _in_rows(in_decode, followed(known, tier, entries.live & (entries.ordinals < starts)), known)
    if any(in_prompt):
        seen, mine = torch.tensor(stretch.ends, device=device), torch.tensor(in_prompt, device=device)
        now = tiers(entries, tier, marks.received, sizes, seen)
        tier = torch.where(mine[:, None, None], now, tier)
        known = _in_rows(in_prompt, profile(replace(marks, tier=now), entries.live, seen), known)
    return known, tier


def profile(marks: Marks, live: Tensor, n_queries: Tensor) -> Profile:
    """The profile of heads of which n_queries [B] have been asked."""
    held = _counts(marks.tier, live)
    return Profile(_lost(marks, live, n_queries), held, held.new_full(held.shape[:2], -1))


def _lost(marks: Marks, live: Tensor, n_queries: Tensor) -> Tensor:
    """The share of attention that policies 0 … 3 leave out, each no more than the one before: [B, H, 4].

    Formula  Σ of received over the entries of later tiers / n_queries; policy 3 keeps what of it they
             received while they were local to a query. A policy that keeps no entry loses everything
    """
    shares = []
    for policy in range(REST):
        is_local = policy == LOCAL
        outside = live & (marks.tier > (FREQUENT if is_local else policy))
        left = torch.where(outside, marks.received - marks.close if is_local else marks.received, 0.0)
        is_empty = ~(live & (marks.tier <= policy)).any(-1)
        share = left.sum(-1) / n_queries.clamp(min=1)[:, None]
        shares.append(share.masked_fill(is_empty, 1.0))
    return torch.stack(shares, -1).clamp(0, 1).cummin(-1).values


def followed(known: Profile, tier: Tensor, live: Tensor) -> Profile:
    """The profile with the policy that heads follow by what they hold, where that is not known yet: the last
    one of whose tiers nothing is gone.

    Shapes   tier [B, H, T], live bool [B, H, T]: of the entries that were there when the prompt ended
    """
    is_whole = (_counts(tier, live) >= known.held).int()
    policy = (is_whole.cumprod(-1).sum(-1) - 1).clamp(min=SPECIAL).int()
    return replace(known, policy=torch.where(known.policy < 0, policy, known.policy))


def _in_rows(rows: Sequence[bool], new: Profile, old: Profile) -> Profile:
    """The new profile in these rows, the old one in the others."""
    mine = torch.tensor(rows, device=old.lost.device)[:, None]
    return Profile(
        torch.where(mine[..., None], new.lost, old.lost),
        torch.where(mine[..., None], new.held, old.held),
        torch.where(mine, new.policy, old.policy),
    )


def _counts(tier: Tensor, live: Tensor) -> Tensor:
    """How many entries of every tier there are: int32 [B, H, 5]."""
    return torch.stack([(live & (tier == k)).sum(-1, dtype=torch.int32) for k in range(REST + 1)], -1)
