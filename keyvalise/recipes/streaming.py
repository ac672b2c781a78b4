"""The first tokens and the newest ones stay, whatever they say.

A model that has once learned to park attention on its first tokens breaks when they leave; with four of
them kept, a window of the newest tokens is enough to go on for ever. What lies between is gone: this is the
floor that every recipe which looks at the text must beat.

Formula    keep t < sinks, and the newest of the others up to the count
Units      sinks: tokens; the count is the budget's, sinks included
Phase      at the prompt, then at every step of decoding: one in, one out. With `tok`, `MiB` or `of prompt`
           memory is constant; a plain share grows with the tokens seen
Scope      layer; the same set in all heads and layers, independent of the text
Reduces to full at 100 %; a sliding window for sinks=0
Differs    positions=slot reads keys at their place among those kept, as the original code does; the default
           leaves them where they were, as most later code does
Paper      Xiao et al. 2023, arXiv 2309.17453           Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt, every 1 in decode: recency > drop(sinks=4) @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
    "positions": ("drop.positions",),
}
PAPERS = ("xiao2023streaming",)
