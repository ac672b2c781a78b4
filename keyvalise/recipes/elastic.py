"""A prompt is folded into its most attended tokens; an answer then pushes out what lies at one place.

Keepers take the tokens around them in, by plain means of keys and values, so that no stretch of an
instruction is wholly gone. While decoding nothing is scored: the entry in a fixed slot, some way before the
prompt's end, leaves whenever there is one too many, so that the beginning and the newest stay.

Formula    s_t = sum over queries, mean over all heads of the attention on t, one set per layer; keepers hold
           the means over the tokens nearest to them. While decoding the entry in slot e leaves, e = entries
           after the prompt + slot
Units      slot: entries, counted from the end of the compressed prompt where negative
Cost       a second pass over the keys of the prompt; 4 bytes per kv head and layer while decoding
Phase      at the prompt, then at every step of decoding: the cache grows at the rate of the budget
Scope      layer: all kv heads keep the same entries
Reduces to full at 100 %; weight=count gives keepers the weight of what they stand for, which is exact where
           neighbours are equal
Differs    follows the paper where its code ranks and indexes otherwise. The budget is that of the other
           recipes here; the published runs removed 20 % and more. Sinks stay while decoding too
Paper      Liu et al. 2024, arXiv 2407.18121            Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: mass > layer(mean) > merge(nearest, sinks=1, recent=1) @ 25%; "
    "every 1 in decode: slot(-25) > drop(sinks=1, recent=1) @ 25%"
)
ARGUMENTS = {
    "weight": ("merge.weight",),
    "slot": ("slot.n",),
    "sinks": ("merge.sinks", "drop.sinks"),
    "recent": ("merge.recent", "drop.recent"),
}
PAPERS = ("liu2024elastic",)
