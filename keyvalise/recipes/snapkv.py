"""The prompt's last queries vote on the prompt, and neighbours of what they choose stay with it.

What the end of a prompt attends to is what the answer will attend to; one look at 32 queries replaces the
mass of all of them. Pooling keeps a found token's surroundings, without which a name loses its number.

Formula    s_t = mean over the last `window` queries and the group of softmax attention, averaged over
           `pool` neighbours; the window itself always stays
Units      window: queries, and as many protected newest tokens;  pool: tokens, odd
Cost       window·T attention logits per query head at the prompt; nothing is held afterwards
Phase      at the prompt, then append
Scope      layer, per kv head
Reduces to h2o's ranking of a prompt for a window as long as the prompt and pool=1; to full at 100 %
Differs    window 32 and average pooling over 5 (initialiser of the official code; its runner for long
           documents uses 7 and the maximum); the mean over the window ranks like the official sum; entries
           of the window lend their scores to neighbours when pooled. A question inside the window makes it
           query-aware
Paper      Li et al. 2024, arXiv 2404.14469             Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(32) > mean > pool(5) > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("li2024snapkv",)
