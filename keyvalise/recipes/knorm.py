"""Tokens whose keys are short stay: in many models short keys draw long looks.

It needs no query and no attention, hence no second pass; whether it is right depends on the model, and on
some it is worse than chance.

Formula    s_t = −‖k_t‖₂ per kv head
Phase      at the prompt, then append
Scope      layer, per kv head; blind to queries and rotation
Reduces to full at 100 %
Differs    all layers are treated alike; write `knorm @ 25% on 2..` for the reference, which spares the
           first two
Paper      Devoto et al. 2024, arXiv 2406.11430         Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: knorm > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("devoto2024knorm",)
