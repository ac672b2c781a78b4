"""A uniform sample of the prompt stays: what a recipe that looks at anything must beat.

Formula    s_t = hash(seed, layer, kv head, ordinal)
Phase      at the prompt, then append
Scope      layer, per kv head
Reduces to full at 100 %
Paper      none
"""

from __future__ import annotations

TEXT = "at prompt: random > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS: tuple[str, ...] = ()
