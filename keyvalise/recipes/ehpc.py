"""The evaluator heads' choice of tokens: those that light up on what will be asked, for all layers.

One layer holds a few heads whose last queries look at the evidence. The tokens that they look at are kept, in
every layer and head the same.

Formula    Σ over the evaluator heads of the window's mean attention, averaged over 33 neighbours
Units      window: queries and protected newest tokens
Phase      at the prompt, then append
Scope      model; one set for all layers and heads
Reduces to snapkv with layer(mean) where all heads of the only layer evaluate; to full at 100 %
Differs    the paper deletes the other tokens from the text and runs the model again (`keyvalise.shorten`);
           here the entries stay as they were computed. Its pooling over 32 is over 33, which has a middle.
Paper      Fei et al. 2025, arXiv 2501.12959            Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "at prompt: evaluators(16) > pool(33) > drop(recent=16) @ 25%"
ARGUMENTS = {
    "window": ("evaluators.n", "drop.recent"),
    "pool": ("pool.size",),
    "profile": ("evaluators.profile",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("fei2025ehpc",)
