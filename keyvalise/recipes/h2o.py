"""Tokens that have drawn the most attention so far stay, beside the newest.

Attention mass concentrates on few tokens, and those that were heavy tend to stay heavy. Scores accumulate
over the prompt and go on during generation; half of the count belongs to the newest tokens, which had no
time to collect any.

Formula    s_t = sum over all queries so far of the attention on t, mean over the group; keep the newest
           half of the count and the largest scores of the others
Units      recent: a share of the count;  budget: a share of the prompt, fixed from then on
Cost       a second pass over the keys of the prompt; 4 bytes per entry and kv head for the whole generation
Phase      at the prompt, then at every step of decoding: one in, one out
Scope      layer, per kv head
Reduces to a sliding window for recent=100%; to full at 100 %
Differs    10 % heavy and 10 % recent of the prompt, as in the usual scripts; rows of a batch score by
           themselves (the original adds them up); evicted entries are freed (its evaluation code masks
           them)
Paper      Zhang et al. 2023, arXiv 2306.14048          Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: mass > mean > drop(recent=50%) @ 20% of prompt; every 1 in decode: same"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("zhang2023h2o",)
