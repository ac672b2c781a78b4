"""Layers that look at a marked stretch of text keep more of it, each head its own best; the rest stays whole.

Published for the patches of an image, but any stretch will do that has a name: a document, the output of a
tool, an earlier turn. A layer that pays it much attention keeps a larger share of it than one that looks past
it. Nothing outside is ever pruned.

Formula    gamma = mean over the heads of the attention that the last queries pay to the span;  rate + step
           where gamma ≥ alpha, rate − step where gamma ≤ beta, else rate; every head keeps that share of the
           span, its own most attended
Units      window: queries that read, protected themselves;  rate, step: shares of the span
Phase      at the prompt, then append
Scope      layer, per kv head
Needs      cache.span(name, start, end) before the text comes, where only=name is written
Reduces to snapkv without its pooling where the budget binds in all layers, without a name; to full at 100 %
Raises     InputError where nobody has marked the span; BadArgument where alpha is not above beta
Differs    without a name the whole text before the window is the span. The budget is an upper bound: where a
           layer wants more, its base rate falls until it fits (`allocate.attentive.knob`), so that @ 99% is
           the published system. The reading queries are the window's; thresholds and rates are ours. For
           first layers that stay untouched write `on 2..`
Paper      Meng et al. 2025, arXiv 2502.14504           Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "at prompt: window(16) > mean > attentive > drop(recent=16) @ 50%"
ARGUMENTS = {
    "only": ("drop.only",),
    "window": ("window.n", "drop.recent"),
    "alpha": ("attentive.alpha",),
    "beta": ("attentive.beta",),
    "rate": ("attentive.rate",),
    "step": ("attentive.step",),
    "gamma_norm": ("attentive.gamma_norm",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("meng2025plphp",)
