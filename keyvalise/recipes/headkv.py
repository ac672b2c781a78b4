"""SnapKV's votes, with room for heads as they were measured to retrieve, over all layers at once.

Few heads fetch what stands far back in a text; which ones is a trait of the model, not of the text, and is
measured once. They get most of the room, the others a floor.

Formula    count_lh = W + (b' − ⌊b'/beta⌋) + p_lh·⌊b'/beta⌋·L·H, b' = b − W, p the profile's shares
Units      window: queries and protected newest tokens;  beta: the budget over its part shared by score
Phase      at the prompt, then append
Scope      layer: a count depends on the budget, the prompt's length and the profile
Reduces to snapkv(window=8, pool=7) with pool(7, max) for a beta above the budget; to full at 100 %
Differs    beta is 1.5 for all tasks, where the paper searches it for each; budgets are of kv heads, whose
           scores are the mean of their group; sums are exact
Paper      Fu et al. 2024, arXiv 2410.19258             Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(8) > mean > pool(7, max) > proportional(profile=retrieval) > drop(recent=8) @ 25%"
ARGUMENTS = {
    "profile": ("proportional.profile",),
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "beta": ("proportional.beta",),
    "temperature": ("proportional.temperature",),
    "reduce": ("proportional.reduce",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("fu2024headkv",)
