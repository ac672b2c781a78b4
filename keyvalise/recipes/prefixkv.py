"""Every layer keeps its best tokens, as many as make all layers retain an equal share of attention.

Layers differ in how many tokens hold their attention. The share that each can spare was measured once, at the
split of a budget whose worst-off layer retains most.

Formula    s_t = sum over the prompt's queries and all heads of the attention on t;  count_l = N − λ·d_l·N,
           d_l the profile's dropped shares, λ such that Σ count_l = L·b
Units      sinks, recent: tokens;  slot: of the entry that leaves while decoding, from the prompt's last kept
Phase      at the prompt by attention; at every step of decoding, where a layer holds too much, by place
Scope      layer: all kv heads keep the same entries
Reduces to h2o's sums with layer(mean) for equal shares; to full at 100 %
Differs    the offline form, scaled to the budget; sums favour early tokens, as published. Sinks and recents
           are protected while decoding too
Paper      Wang et al. 2024, arXiv 2412.03409           Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: mass > layer(mean) > prefix > drop(sinks=1, recent=1) @ 50%; "
    "every 1 in decode: slot(-25) > prefix > drop(sinks=1, recent=1) @ 50%"
)
ARGUMENTS = {
    "profile": ("prefix.profile",),
    "slot": ("slot.n",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("wang2024prefixkv",)
