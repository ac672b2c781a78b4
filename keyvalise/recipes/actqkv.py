"""Pages are found by their most attended keys, and layers whose scores are even read more of them.

A page is known by the mean of the few keys that earlier queries attended to most. A window of queries
searches as one, led by its unusual ones; a layer that wants one page reads few, one that cannot tell reads
many.

Formula    page: mean of the `landmarks` keys of largest mass;  probe: Σ q_i·bias_i / Σ bias over the window;
           ranked by Σ_h softmax_u(scale·‖q_h‖·cos(q_h, c_u));  read·min(max(2·ē, 1/2), 2) entries, ē the mean
           entropy of a layer's shares, between 0 and 1
Units      page, sinks, recent, block: tokens;  window: queries;  read: entries per layer at ē = 1/2, or a
           share of those in pages;  steps: those that ē is of
Cost       D numbers per page and kv head, 1/64 of the cache at 32 tokens a page; a prompt's attention once
           more; with a window, its queries and 4 + 8·Hq·D bytes per row and layer
Phase      pages are made when the prompt ends, then of every block; prompts read everything; then every step
Scope      layer: all heads read the same pages
Reduces to full attention for read=100%
Differs    one cosine per query head, summed by votes, instead of one of all heads' vectors laid end to end;
           calls of several queries, such as prompts, read everything, so that the window is one query unless
           it is told otherwise; positions stay true, where the official code sets all that is retrieved at
           one distance; no weight for a question, whose place nobody has said. Layers do not know of one
           another: no total is held. Pages lie where the model computes, unless `> host` stands behind
Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
"""

from __future__ import annotations

TEXT = "pages(32) > landmarks(4) > probing(1) > together > cutoff(736, sinks=64, recent=512, block=256)"
ARGUMENTS = {
    "page": ("pages.n",),
    "landmarks": ("landmarks.n",),
    "window": ("probing.n",),
    "read": ("cutoff.amount",),
    "steps": ("cutoff.window",),
    "sinks": ("cutoff.sinks",),
    "recent": ("cutoff.recent",),
    "block": ("cutoff.block",),
}
PAPERS = ("xiao2025actqkv",)
