"""What a head would lose without an entry and all that its policies keep after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.observe.policies import PoliciesObserver
from keyvalise.ops import policies
from keyvalise.ops.heads import How
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer, View
from keyvalise.types.quantity import Amount, Share

MOST = 2.0
"""The score of special tokens, above all shares."""


@dataclass(frozen=True, slots=True)
class PoliciesScore:
    """Nested policies keep special tokens, then also punctuation, frequent ones, local ones, everything; an
    entry is worth what the last policy without it loses of the prompt's attention.

    Shapes     → [B, H, T] float32, "free": MOST for special tokens, else in (0, 1], −inf where it must go
    Formula    s_t = share lost by the policy before the first that keeps t; the entries above 1 − T are the
               first policy that recovers T. frequent: the most attended of the tokens without a class, local:
               the newest of the others, both anew at every decision; the shares are those at the prompt's
               end. While decoding, what only policies that a head has given up would keep must go
    Units      frequent, local: tokens, or a share of the prompt's
    Cost       T·log T time per head here; PoliciesObserver pays Hq·S·T·D per piece, 12 bytes per entry and
               kv head
    Needs      token ids, classes of tokens, queries, keys, lse; PoliciesObserver
    Phase      prompt and decode                            Scope  layer, per kv head
    Reduces to mass ranked in steps for frequent=100%; to recency in steps for local=100% alone
    Raises     AssetError where the classes are missing
    Differs    the paper leaves groups open: their attention is averaged, or reduce=max takes the largest of
               every query and token, so that no query head loses more than the share. Shares lost are of all
               queries so far, and count what is held: what went in an earlier chunk, or to a sink, is not
               lost again. Markers that are several tokens are special where each of them is
    Paper      Ge et al. 2023, arXiv 2310.01801             Confidence  paper
    """

    classes: str = asset("classes", doc="which tokens are special and which punctuation", kind="classes")
    frequent: Amount = arg(Share(30), low=0, doc="tokens that count as frequent")
    local: Amount = arg(Share(30), low=0, doc="newest tokens that count as local")
    reduce: How = arg("mean", choices=("mean", "max"), doc="attention of query heads to that of kv heads")

    name: ClassVar[str] = "policies"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "queries:piece", "keys", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (self._observer,)

    @property
    def _observer(self) -> PoliciesObserver:
        return PoliciesObserver(self.classes, self.frequent, self.local, self.reduce)

    def came_to(self, view: View) -> str:
        _, entries, stats = view
        names = self._observer.called("lost", "held", "policy", "rank")
        known = policies.Profile(*(stats[name] for name in names[:3]))
        tier = policies.REST - torch.where(entries.live, entries.column(names[3]), 0.0)
        chosen = policies.followed(known, tier, entries.live).policy[0].long()
        lost = functional.pad(known.lost[0], (0, 1)).gather(-1, chosen[:, None])
        counts = torch.bincount(chosen, minlength=len(policies.NAMES)).tolist()
        heads = ", ".join(f"{n} {name}" for name, n in zip(policies.NAMES, counts, strict=True) if n)
        return (
            f"heads by policy: {heads}; all recover {100 * (1 - float(lost.max())):.0f} % of their attention"
        )

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        watched = self._observer
        columns = (entries.column(name) for name in watched.called("received", "rank"))
        received, rank = (torch.where(entries.live, column, 0.0) for column in columns)
        lost, policy = (stats[name] for name in watched.called("lost", "policy"))
        seen = torch.tensor(piece.stretch.ends, device=rank.device)
        sizes = watched.sizes(env, piece)
        tier = policies.tiers(entries, policies.REST - rank, received, sizes, seen).long()
        # A loss too small for a number still is one: only a threshold below 1 may spare it.
        worth = functional.pad(lost.clamp(min=torch.finfo(lost.dtype).tiny), (1, 0), value=MOST)
        values = worth.gather(-1, tier)
        has_gone = (policy[..., None] >= 0) & (tier > policy[..., None])
        return Scores(values.masked_fill(has_gone, -math.inf).masked_fill(~entries.live, 0.0))
