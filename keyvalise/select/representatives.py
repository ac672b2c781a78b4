"""The best, and among the others some that differ in which heads want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import hashing, heads, topk
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores

ANCHORS = ("alternate", "zeros", "ones", "mean", "random")


@dataclass(frozen=True, slots=True)
class RepresentativesSelect:
    """A share of every head's count goes to losers picked evenly along their distance from an anchor.

    Shapes     scores [B, H | 1, T], votes [B, Hq | H | 1, T], counts int [B, H], protect bool [B, H, T]
               → keep bool [B, H, T]
    Formula    bit h of a token's signature: kv head h holds it among the ⌈N/2⌉ best of its N unprotected
               entries; d = Hamming distance of the signature from the anchor. Of a head's c unprotected
               places ⌊share·c⌋ = R are for losers: with the losers 0 … n − 1 in the order (d, ordinal), those
               numbered ⌊i·(n − 1)/(R − 1)⌋, i = 0 … R − 1; the closest alone for R = 1
               anchor: 0101… over the kv heads, all 0, all 1, a coin per head, or the majority of the bits of
               the tokens that no head keeps by its scores
    Cost       H·T·log T time; one int32 per token seen, transient
    Scope      per kv head; signatures are one for all heads of the layer, matched by ordinal
    Reduces to top for share = 0; only representatives, and what is protected, for share = 1
    Differs    single tokens, as in the paper, where public implementations take blocks; no entry can be kept
               twice. Scores of query heads vote as their mean. Heads lose different tokens, so that each
               picks among its own. An entry of score −inf neither votes nor stays
    Paper      Jha et al. 2025, arXiv 2503.00022            Confidence  paper
    """

    share: float = arg(0.25, low=0.0, high=1.0, doc="part of the unprotected count that goes to losers")
    anchor: Literal["alternate", "zeros", "ones", "mean", "random"] = arg("alternate", choices=ANCHORS)

    name: ClassVar[str] = "representatives"
    room: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice:
        values = scores.values.expand(entries.live.shape)
        is_rival = entries.live & ~protect & ~torch.isneginf(values)
        n_free = (counts - (protect & entries.live).sum(-1)).clamp(min=0)
        n_other = (n_free.double() * self.share + 1e-9).long()
        best = topk.top(values, counts - n_other, protect, entries.live)
        is_loser = is_rival & ~best
        wanted = heads.reduce(votes, env.geometry).values.expand(values.shape)
        bits = topk.top(wanted, (is_rival.sum(-1) + 1) // 2, torch.zeros_like(protect), is_rival)
        distance = self._distances(env, entries, bits, best)
        return Choice(best | _spaced(distance, is_loser, torch.minimum(n_other, is_loser.sum(-1))))

    def _distances(self, env: Env, entries: Entries, bits: Tensor, best: Tensor) -> Tensor:
        """Distance [B, H, T] of every entry's signature from the anchor."""
        n_rows, n_heads, _ = bits.shape
        place = entries.ordinals.clamp(min=0).long()
        table = torch.zeros((n_rows, n_heads, int(place.max()) + 1), dtype=torch.int32, device=bits.device)
        signature, held, kept = (table.scatter_add(2, place, x.int()) for x in (bits, entries.live, best))
        is_lost = (held.sum(1, keepdim=True) > 0) & (kept.sum(1, keepdim=True) == 0)
        anchor = self._anchor(env, signature, is_lost)
        return (signature - anchor).abs().sum(1, keepdim=True).expand(table.shape).gather(2, place)

    def _anchor(self, env: Env, signature: Tensor, is_lost: Tensor) -> Tensor:
        """int32, on the axes of signature [B, H, tokens]."""
        number = torch.arange(signature.shape[1], device=signature.device)[:, None]
        if self.anchor == "mean":
            return (2 * (signature * is_lost).sum(-1, keepdim=True) > is_lost.sum(-1, keepdim=True)).int()
        if self.anchor == "random":
            coin = hashing.uniform(
                env.seed, "anchor", env.layer, number[:, 0], torch.zeros_like(number)[None]
            )
            return (coin < 0.5).int()
        return {"zeros": 0 * number, "ones": 0 * number + 1, "alternate": number % 2}[self.anchor].int()


def _spaced(distance: Tensor, is_loser: Tensor, n: Tensor) -> Tensor:
    """n [B, H] of the losers, evenly along (distance, ordinal), the first and the last among them."""
    order = distance.masked_fill(~is_loser, torch.iinfo(torch.int32).max).argsort(dim=-1, stable=True)
    rank = torch.arange(distance.shape[-1], device=distance.device)
    last = (is_loser.sum(-1) - 1).clamp(min=0)[..., None]
    picked = rank * last // (n[..., None] - 1).clamp(min=1)
    # Ranks beyond n pick a place behind the end.
    picked = torch.where(rank < n[..., None], picked, distance.shape[-1])
    wide = torch.zeros((*order.shape[:2], order.shape[-1] + 1), dtype=torch.bool, device=order.device)
    is_picked = wide.scatter(-1, picked, True)[..., :-1]
    return torch.zeros_like(is_loser).scatter(-1, order, is_picked)
