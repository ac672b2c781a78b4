"""Halves that answer alike: a sample is balanced while it is drawn, and stands for what it left out.

Entries walk by and each takes a side, leaning to the one on which its likes are fewer; either side then gives
nearly the same sums of exp(⟨k, q⟩)·v whatever the query, and one of them with double weight is enough. No
query and no score is needed.

Formula    see the part: signs by a walk on exp(⟨k, k'⟩)·⟨v, v'⟩ inside blocks, one sign leaves, the other
           counts double; twice, and once more for as many as are too many still
Units      block: tokens;  sinks, recent: tokens that always stay, without weight
Cost       rounds·T·block·D time; 4 bytes of log-weight per entry and kv head
Phase      at the prompt, then append
Scope      layer, per kv head; blind to queries
Reduces to weighted_random for rounds=0, protection aside; to full, without weights, at 100 %
Differs    per-entry weights in numerator and denominator; the tree over a stream of the paper's theory is not
           built. See the part for what the budget does to the last round
Paper      Han et al. 2025, arXiv 2502.07861            Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: random > balance > drop(sinks=32, recent=32) @ 25%"
ARGUMENTS = {
    "rounds": ("balance.rounds",),
    "gamma": ("balance.gamma",),
    "block": ("balance.block",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("han2025balancekv",)
