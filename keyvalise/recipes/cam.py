"""H2O, but a token that leaves while decoding may hand its value to the tokens behind it.

Whatever is dropped disturbs the output. With a chance that grows with the attention it drew, the leaving
token adds its value in equal shares to the next `m` kept ones, so that what it would have contributed is
still there on average.

Formula    p = min(s_i / mean of s over the next m keepers, 1); with probability p each of their values
           becomes v_j + v_i/m
Units      m: kept entries;  recent: a share of the count;  budget: a share of the prompt, fixed from then on
Cost       that of h2o, and one pass over the kept values per step
Phase      at the prompt entries are dropped; at every step of decoding one comes in and one is merged
Scope      layer, per kv head; draws are hashed from layer, head and ordinal
Reduces to h2o where nobody is drawn; to full at 100 %
Differs    the base is accumulated attention, 10 % heavy and 10 % recent; the authors' scripts for long
           streams start from sinks and a window instead. The prompt is dropped, not merged, for values would
           grow in bulk. The softmax still lacks the losers' mass, as published: weight=mass restores it
Paper      Zhang et al. 2024, PMLR 235                  Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: mass > mean > drop(recent=50%) @ 20% of prompt; "
    "every 1 in decode: mass > mean > cam(recent=50%) @ 20% of prompt"
)
ARGUMENTS = {
    "m": ("cam.m",),
    "weight": ("cam.weight",),
    "sinks": ("drop.sinks", "cam.sinks"),
    "recent": ("drop.recent", "cam.recent"),
}
PAPERS = ("zhang2024cam",)
