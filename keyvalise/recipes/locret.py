"""A trained head foresees, when a token comes, how much any later answer will look at it.

Scores that never change allow a prompt to be read in chunks, each of which drops to the budget at once: the
memory of a prompt of any length is the budget and one chunk.

Formula    s_t = MLP([q_t, k_t, v_t]) per kv head, un-rotated; keep the largest. In every chunk but the last
           the newest entries stay whatever they score, so that the next chunk finds its context whole
Units      recent: tokens or a share of the count, in both stages; 15 % in the chunks is 2500 of 16384, as
           published, and 1 % at the end stands for the last 100 tokens, which are never judged
Cost       one small MLP per token of the prompt; 4 bytes per entry and kv head until the prompt ends; the
           heads are fixed bytes
Phase      every 1024 tokens in the prompt and at its end, then append; every=64 goes on while decoding
Scope      layer, per kv head
Reduces to full at 100 %; positions=slot closes the gaps, as the official code does
Differs    the last chunk needs no rule of its own: where the prompt ends, its stage acts first and leaves
           nothing to the other. The last tokens lie inside the budget, and read the last chunk before it is
           thinned. Keys keep their places by default. Scores end with the prompt: in a second turn what an
           earlier one left counts as 0, unless every= keeps them
Paper      Huang et al. 2024, arXiv 2410.01805          Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: retaining > drop(recent=1%) @ 25%; every 1024 in prompt: retaining > drop(recent=15%) @ 25%"
)
ARGUMENTS = {
    "head": ("retaining.head",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
    "positions": ("drop.positions",),
}
PAPERS = ("huang2024locret",)
