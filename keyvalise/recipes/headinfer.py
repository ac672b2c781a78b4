"""Exact attention with all keys and values in a slow tier: they come head by head, the next one meanwhile.

Heads know nothing of each other until the output projection, so that one of them at a time is enough.

Formula    none: every head reads all it has
Units      cache: entries that may stay near, or a share;  recent, block: tokens that lie near until they move
Cost       all bytes pass the bus at every step; of what is far, two heads are near at a time
Phase      entries move when the prompt ends, then every `block` tokens; every step reads everything
Scope      per kv head
Reduces to full
Differs    prompts are attended before their entries move, layer by layer; projections are not sliced
Paper      Luo et al. 2025, arXiv 2502.12574            Confidence  official code
"""

from __future__ import annotations

TEXT = "heads > read(100%, sinks=0, recent=0, block=64) > host(cache=0)"
ARGUMENTS = {
    "cache": ("host.cache",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("luo2025headinfer",)
