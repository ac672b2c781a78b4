"""Tokens stay by the attention that queries still to come are expected to pay, times the length of their
value.

Queries are close to Gaussian; rotated to the positions ahead, their mean and covariance give the expected
logit of every key in closed form. So the future is asked, not the prompt's last words.

Formula    s_t = softmax_t(scale·k_t·Rμ + ½·scale²·k_tᵀRΣRᵀk_t)·‖v_t‖₂, mean over the group; sinks always
           stay
Units      future: positions ahead that are averaged over;  sinks: tokens
Cost       H·T·D² time at the prompt; moments of D·(D + 1) floats per query head until it ends
Needs      a rotary embedding that does not change with length, or none
Phase      at the prompt, then append
Scope      layer, per kv head
Reduces to full at 100 %
Differs    sinks are protected by a mask, not by a score
Paper      Devoto et al. 2025, arXiv 2510.00636         Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: expected > mean > drop(sinks=4) @ 25%"
ARGUMENTS = {
    "future": ("expected.future",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("devoto2025expected",)
