"""SnapKV's choice with a part of its room given to representatives of what it would lose.

Which heads care for a token is a signature of one bit per head. Losers sorted by how far theirs lies from an
anchor show every kind of token once, at the price of one comparison each; evenly spaced ones among them stay.

Formula    see the part: the best by votes, then losers number ⌊i·(n − 1)/(R − 1)⌋ in the order of Hamming
           distance
Units      share: of the count beside the window;  window: queries and protected newest tokens
Cost       that of snapkv and one sort; nothing is held afterwards
Phase      at the prompt, then append
Scope      layer, per kv head; signatures over all kv heads of the layer
Reduces to snapkv for share=0; to full at 100 %
Differs    tokens, not blocks of them; bits per kv head, with few heads few kinds of tokens can be told apart.
           The anchor alternates, as in one public implementation; another draws it
Paper      Jha et al. 2025, arXiv 2503.00022            Confidence  paper
"""

from __future__ import annotations

TEXT = "at prompt: window(32) > mean > pool(5) > representatives > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "share": ("representatives.share",),
    "anchor": ("representatives.anchor",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("jha2025kvcrush",)
