"""A sample that answers like the whole: halves of equal weight, chosen by a self-balancing walk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import balance, hashing, mass, merging, topk, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores


@dataclass(frozen=True, slots=True)
class BalanceSelect:
    """Halve, and halve again: one of two halves that give nearly the same sums stays, counting for both.

    Shapes     counts int [B, H], protect bool [B, H, T] → keep bool [B, H, T], add_logw float32 [B, H, T]
    Formula    candidates are the unprotected; a round gives each a sign, see `ops.balance`: kernel
               exp(temp·scale·⟨k_i, k_j⟩ − beta)·w_i·w_j·(⟨v_i, v_j⟩ + 0.025), keys centred per block, w the
               weights so far; of N candidates ⌊N/2⌋ stay, with weight doubled up to the point where one sign
               is used up. While at least the n that are asked for would stay, all candidates take part, at
               most `rounds` times; a last round halves only the 2·(N − n) oldest, which meets n exactly.
               Where N is larger still, n are drawn uniformly, with weight N/n. add_logw = log of the weight
    Units      block: candidates that walk together
    Cost       per round T·block·(D + Dv) time in `block` steps; kernels of 64 MiB at a time; log-weights of 4
               bytes per entry and kv head from then on
    Phase      meant for one decision per entry, at the prompt, as with sample
    Scope      per kv head; needs no query and no score; of two scores only −inf counts: such an entry goes
    Reduces to a choice that does not look at the text for gamma = 0; to random > sample for rounds = 0; to
               everything, without weights, where all may stay
    Differs    both the numerator and the denominator are weighed per entry; the code that goes with the paper
               uses the mean weight below. Weights scale the whole kernel, not values only. The first sign of
               a block is drawn like the others. No entries are kept for their correlation
    Paper      Han et al. 2025, arXiv 2502.07861            Confidence  official code
    """

    rounds: int = arg(2, low=0, doc="most halvings of all candidates")
    gamma: float = arg(4.0, low=0.0, doc="how strongly a step leans against the sum so far")
    temp: float = arg(1.0, low=0.0, doc="factor of the logit between two keys")
    beta: float = arg(0.0, low=0.0, doc="taken off that logit")
    block: int = arg(128, low=1, doc="candidates that walk together")

    name: ClassVar[str] = "balance"
    room: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset({"logw"})
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice:
        is_rival = entries.live & ~protect & ~torch.isneginf(scores.values)
        guarded = topk.top(torch.full_like(scores.values, -math.inf), counts, protect, entries.live)
        n = torch.minimum(counts - guarded.sum(-1), is_rival.sum(-1)).clamp(min=0)[..., None]
        values = weigh.clean_values(entries)
        features = torch.cat([values, torch.full_like(values[..., :1], math.sqrt(0.025))], -1)
        features = features * merging.counts(entries)[..., None]
        weight, keys = is_rival.float(), mass.clean_keys(entries)
        for i in range(self.rounds + 1 if self.rounds else 0):
            held = (weight > 0).sum(-1, keepdim=True)
            some = 2 * (held - n)
            part = torch.where(some <= held, some, held if i < self.rounds else 0)
            if not bool((part > 0).any()):
                break
            walkers = merging.Places.of((weight > 0) & ((weight > 0).cumsum(-1) <= part))
            draws = walkers.take(hashing.per_entry(env, f"balance{i}", entries))
            walk = balance.Walk(self.gamma, self.temp, self.beta, self.block, env.geometry.scale)
            carried = walkers.take(features * weight[..., None])
            signs = walk.signs(walkers.take(keys), carried, walkers.is_real, draws)
            factor = torch.where(walkers.is_real, balance.halved(signs), 1.0)
            weight = weight.scatter(-1, walkers.slots, walkers.take(weight) * factor)
        draws = hashing.per_entry(env, "random", entries).float().masked_fill(weight == 0, -math.inf)
        drawn = topk.top(draws, n[..., 0], torch.zeros_like(is_rival), entries.live)
        weight = weight * ((weight > 0).sum(-1, keepdim=True) / n.clamp(min=1))
        return Choice(guarded | drawn, torch.where(drawn, weight, 1.0).log())
