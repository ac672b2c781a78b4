"""Tokens stay by the attention they drew so far, times the length of the value it fetched.

Attention alone counts a look as a look; but where the value is almost zero, as at the first tokens of most
models, nothing came of it. So the product ranks, and the first tokens, which hold attention without giving
anything, are kept by name: without them the product would drop what a model misses most.

Formula    s_t = (sum over all queries so far of the attention on t, mean over the group)·‖v_t‖₁; keep the
           first tokens, the newest half of the count, and the largest scores of the others
Units      sinks: tokens, within the count;  recent: a share of the count;  budget: a share of the prompt
Cost       as h2o: a second pass over the keys of the prompt, 4 bytes per entry and kv head while generating;
           the lengths are taken from the values at every step
Phase      at the prompt, then at every step of decoding: one in, one out
Scope      layer, per kv head; a group shares its values, so the product needs no rule for groups
Reduces to h2o with the same protection where all values are equally long; to full at 100 %
Differs    sinks and recents are masks, not scores at the dtype's maximum; evicted entries are freed (the
           official evaluation masks them). Over Scissorhands' window: `snapkv > value_norm`
Paper      Guo et al. 2024, arXiv 2406.12335            Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: mass > mean > value_norm > drop(sinks=20, recent=50%) @ 50% of prompt; "
    "every 1 in decode: same"
)
ARGUMENTS = {
    "p": ("value_norm.p",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("guo2024vatp",)
