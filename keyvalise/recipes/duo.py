"""Heads that retrieve keep everything, the others stream: sinks and the newest tokens.

A gate was learned for every kv head that says how much the model loses when the head cannot look back. The
heads of the highest gates keep all tokens; the memory of the others is constant.

Formula    the F heads of the highest gates keep N tokens, the others sinks + recent, with the largest F that
           the budget of all layers allows
Units      sinks, recent: tokens, the newest included;  full: largest share of the heads that keep everything
Phase      at the prompt, then at every step of decoding; with prefill chunks after each of them
Scope      layer: the layout depends on the budget, the tokens seen and the profile
Reduces to streaming where the budget holds no full head; to full at 100 %
Differs    the budget decides how many heads are full; full=0.5 @ 99% is the published split in halves. Ties
           between gates, drawn by lot in the official code, are dealt out over the layers
Paper      Xiao et al. 2024, arXiv 2410.10819           Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt, every 1 in decode: recency > layout(profile=duo) > drop(sinks=64, recent=256) @ 50%"
ARGUMENTS = {
    "profile": ("layout.profile",),
    "full": ("layout.full",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("xiao2024duo",)
