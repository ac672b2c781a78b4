"""SnapKV's votes, with more room in the lower layers and less in the upper ones.

Attention spreads widely in the first layers and gathers on few tokens in the last; counts fall along with
it, in an arithmetic progression whose mean is the budget.

Formula    count_l = W + m_max − l·(m_max − m_min)/(L − 1), m_min = (b − W)/beta, m_max = 2·(b − W) − m_min
Units      window: queries and protected newest tokens;  beta: mean over the smallest count
Phase      at the prompt, then append
Scope      layer: a count depends on the budget and the prompt's length only
Reduces to snapkv for pyramid(beta=1); to full at 100 %
Differs    window and pooling are those of snapkv here (32, mean over 5: the classes' defaults), so that the
           two differ in the allocation alone; the published runs used a window of 8 and the maximum over 7.
           Counts sum to the budget exactly
Paper      Cai et al. 2024, arXiv 2406.02069            Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(32) > mean > pool(5) > pyramid > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "beta": ("pyramid.beta",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("cai2024pyramidkv",)
