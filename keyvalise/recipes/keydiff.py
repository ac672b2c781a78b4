"""Tokens whose keys point away from the crowd stay.

Keys that resemble the mean key are redundant; keys that differ draw attention and tell tokens apart. It
needs no query, so it can run block by block over a prompt that never fits as a whole.

Formula    s_t = −cos(k_t, mean of the unit keys) per kv head
Phase      at the prompt, then append; with prefill_chunk or `every n in prompt` it is the paper's block-
           wise form
Scope      layer, per kv head; blind to queries and to the length of keys
Reduces to full at 100 %
Paper      Park et al. 2025, arXiv 2504.15364           Confidence  paper
"""

from __future__ import annotations

TEXT = "at prompt: keydiff > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("park2025keydiff",)
