"""Heads that repeat what stood before keep everything; in the others one token stands for the rest.

On a text of random tokens that repeats itself, few heads look back to the same token (echo) or to its
successor (induction). Without them a model cannot retrieve; all others do with sinks and a local buffer.

Formula    the F heads of the highest scores keep N tokens, the others sinks + recent, with the largest F that
           the budget of all layers allows
Units      recent: share of the mean count: 62.5 % of 32 % are a buffer of N/5, beside which 15 % of the heads
           are full, as published
Phase      at the prompt, then at every step of decoding
Scope      layer: the layout depends on the budget, the tokens seen and the profile
Reduces to duo for its profile, sinks and recents, without compensation; to full at 100 %
Differs    the buffer has no least length (4000 in the paper); the budget decides how many heads are full
Paper      Tang et al. 2024, arXiv 2407.15891           Confidence  reconstruction
"""

from __future__ import annotations

TEXT = (
    "at prompt, every 1 in decode: recency > layout(profile=razor) > compensate(sinks=4, recent=62.5%) @ 32%"
)
ARGUMENTS = {
    "profile": ("layout.profile",),
    "full": ("layout.full",),
    "sinks": ("compensate.sinks",),
    "recent": ("compensate.recent",),
}
PAPERS = ("tang2024razor",)
