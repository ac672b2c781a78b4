"""Four heads of every layer vote for all of it, and layers get room by the error that dropping makes in them.

Most heads of a layer look at the first and last tokens only and outvote the few that look at meaning. Those
few were measured once; their votes choose one set of tokens for the layer.

Formula    s_t = mean over the layer's n best heads of their window's attention, averaged over `pool`
           neighbours;  count_l = clip(least + e_l·(T − L·least), least, most·b), Σ = L·b
Units      window: queries and protected newest tokens;  least: tokens;  most: times the mean count
Phase      at the prompt, then append
Scope      layer: all kv heads keep the same entries
Reduces to snapkv's votes with layer(mean) for voters of all heads and equal errors; to full at 100 %
Differs    what a short prompt leaves unused in a layer goes to the others
Paper      Lin et al. 2025, arXiv 2508.02401            Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(8) > voters > pool(5) > layers > drop(recent=8) @ 25%"
ARGUMENTS = {
    "profile": ("layers.profile",),
    "ranks": ("voters.profile",),
    "voters": ("voters.n",),
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "least": ("layers.least",),
    "most": ("layers.most",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("lin2025compresskv",)
