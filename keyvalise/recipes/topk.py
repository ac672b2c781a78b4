"""Every head reads the tokens with the largest logits: what all other ways of reading are measured against.

Exact search over all keys. It saves reading values, and shows how little of a context a step needs.

Formula    read the `read` entries with the largest q·k, beside the first and the newest
Units      read: entries per query head, or a share of those in units;  sinks, recent, block: tokens
Cost       nothing is stored; all keys are asked at every step
Phase      prompts read everything; then every step
Scope      per query head
Reduces to full attention for 100%
Paper      Liu et al. 2024, arXiv 2409.10516            Confidence  official code
"""

from __future__ import annotations

TEXT = "tokens > keys > each > read(2%)"
ARGUMENTS = {
    "read": ("read.amount",),
    "sinks": ("read.sinks",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("liu2024retrievalattention",)
