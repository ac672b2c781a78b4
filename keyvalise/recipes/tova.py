"""Only what the newest query attends to stays, one set of tokens for all heads of a layer.

A transformer with a bounded cache is a recurrent network of many states; the simplest policy lets the state
leave that the present token looks at least. There are no sinks and no recents: they stay if they are looked
at.

Formula    s_t = mean over all query heads of the layer of the newest query's attention on t
Phase      at the prompt, then at every step of decoding: one in, one out
Scope      layer: all kv heads keep the same entries
Reduces to full at 100 %
Differs    the newest token competes by its own score, as in the paper; a rival library always keeps it
Paper      Oren et al. 2024, arXiv 2401.06104           Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt, every 1 in decode: window(1) > layer(mean) > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("oren2024tova",)
