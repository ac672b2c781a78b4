"""Spans whose tokens attend to one another are stored far away, and those that a query wants come back whole.

Attention is local: below its diagonal lie dense triangles, stretches of text that speak of one thing. They
are found while the text streams by, window by window, and each is known by the mean of its keys.

Formula    spans: the largest Σ_{x ≤ j ≤ i ≤ y} (A_ij − theta), disjoint; ranked by
           Σ_g softmax_u(scale·q_g·c_u)
Units      read: entries per kv head;  window, shortest, longest: tokens;  theta: times even attention;
           sinks, recent, block: tokens
Cost       D numbers per span and kv head; window·(Hq + H)·D numbers per row and layer; what a step reads
           passes the bus
Phase      windows as they fill; every `block` tokens enter units; every step chooses anew
Scope      spans are the layer's, the choice the kv head's
Reduces to full where everything is read
Differs    no code is published. Ours are: the mean key as a span's only index vector, where the paper has a
           static and dynamic ones; votes of the query heads in place of recall that persists over layers and
           of votes by retrieval heads; prompts read everything; theta, the window, the lengths, and that
           spans share no token; what lies between two spans is a unit as well, so that nothing is lost
Paper      Tang et al. 2024, arXiv 2412.04757           Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "spans > read(1024, recent=128, block=256) > host"
ARGUMENTS = {
    "window": ("spans.window", "read.recent"),
    "theta": ("spans.theta",),
    "shortest": ("spans.least",),
    "longest": ("spans.most",),
    "read": ("read.amount",),
    "sinks": ("spans.sinks", "read.sinks"),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("tang2024ltri",)
