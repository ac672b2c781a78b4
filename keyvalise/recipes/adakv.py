"""SnapKV's votes, with the heads of a layer competing for one common room.

Heads differ in how far they look: the best scores of all heads together decide how many entries each keeps,
above a floor. The retained attention is then the largest that any split of the budget retains.

Formula    the H·b best scores of the layer, of which every head is sure of floor·b; the window always stays
Units      window: queries and protected newest tokens;  floor: share of the uniform count
Phase      at the prompt, then append
Scope      layer; heads end with different counts, whose memory is really freed
Reduces to snapkv with pool(7, max) for floor=1 or one kv head; to full at 100 %
Differs    the floor is guaranteed, not blended in; the window lends its scores to neighbours when pooled
Paper      Feng et al. 2024, arXiv 2407.11550           Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(32) > mean > pool(7, max) > adaptive(floor=0.2) > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "floor": ("adaptive.floor",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("feng2024adakv",)
