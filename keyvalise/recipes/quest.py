"""Pages of tokens that follow one another are read where a bound of their logits is largest.

Of a page the lowest and the highest number of every key channel are known; they bound what any of its keys
can be to a query, and the pages with the largest bounds are read.

Formula    bound = Σ_c max(q_c·low_c, q_c·high_c) ≥ q·k for every key of the page
Units      page: tokens;  read: entries per query head, or a share of those in pages;  block: tokens that
           become pages together
Cost       2·D numbers per page and kv head, a sixteenth of the cache at 16 tokens a page
Phase      prompts read everything; then every step
Scope      per query head; the first two layers read everything
Reduces to full attention for 100%; to topk for pages of one token
Differs    tokens are always read from the page that is being filled on: up to `block` of them. Nothing is
           left of the rule that three pages are read at least: one is
Paper      Tang et al. 2024, arXiv 2406.10774           Confidence  official code
"""

from __future__ import annotations

TEXT = "pages(16) > box > each > read(1024, sinks=0, recent=0, block=16) on 2.."
ARGUMENTS = {
    "page": ("pages.n",),
    "read": ("read.amount",),
    "sinks": ("read.sinks",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("tang2024quest",)
