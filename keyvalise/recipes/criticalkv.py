"""Half of the count goes by attention, the other half by attention times what the value adds to the layer.

How far the output of a layer can move is bounded by attention times the length of the value behind the
output projection, provided that what is kept holds more than half of the attention. The first half of the
count secures that, the second lowers the bound.

Formula    a_t = attention of the last `window` queries on t, averaged over them and over `pool` neighbours;
           keep the window and the best a_t up to ⌊share·count⌋, then the best mean_g (a_gt + eps)·‖v_t W_g‖₁
Units      window: queries, and as many protected newest tokens;  pool: tokens, odd;  share: of the count
Cost       window·T attention logits per query head and one output projection over the prompt, in blocks
Needs      a model whose output projection can be read
Phase      at the prompt, then append
Scope      layer, per kv head; `criticalkv > adaptive` shares the layer's budget out by the attention alone
Reduces to snapkv for share=1; to full at 100 %
Differs    the product is formed per query head, which is what the bound says; heads=product is the reference
           code's product of means. Window 32 and pooling over 5 as in snapkv here (the rival library's
           window is 64). Counts per head leave memory that is really freed
Paper      Feng et al. 2025, arXiv 2502.03805           Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: window(32) > pool(5) > output_norm > mean > two_stage > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "heads": ("output_norm.group",),
    "eps": ("output_norm.eps",),
    "share": ("two_stage.share",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("feng2025criticalkv",)
