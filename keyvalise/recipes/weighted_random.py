"""A uniform sample stays, and every sampled token counts for those that left.

n of N tokens with log-weight log(N/n) give an unbiased estimate of the softmax's sums, numerator and
denominator. It is the honest baseline of every method that merges or weighs.

Formula    keep n uniform draws of the N unprotected entries, each with + log(N/n) on its logit
Cost       4 bytes of log-weight per entry and kv head
Phase      at the prompt, then append
Scope      layer, per kv head
Reduces to random plus a constant; to full, without weights, at 100 %
Differs    the paper balances by a discrepancy walk; this is the uniform sample with the same weight that
           its table compares with. One weight per entry serves numerator and denominator
Paper      Han et al. 2025, arXiv 2502.07861 (its baseline)    Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: random > sample(uniform) > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("han2025balancekv",)
