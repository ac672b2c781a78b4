"""Tokens that resemble one that stays are averaged into it, the others leave, each kv head for itself.

What stays is judged by all queries and by the last ones on one scale, for the first favour early tokens and
the second late ones. A loser whose key and value both point where those of a keeper point adds little that
the keeper does not say; it lends its value and its weight, and what resembles nothing is dropped.

Formula    s_t = max(attention of all queries, of the last `window`, their means agreed); a loser joins the
           keeper c of largest max(cos(k_t, k_c), 0)·max(cos(v_t, v_c), 0) if that exceeds `zero`; values are
           averaged by s, log(1 + Σ s_t/s_c) goes onto the keeper's log-weight, its key stays
Units      window: queries;  zero: a product of cosines, at 1 and above nothing is merged
Cost       K·L products of cosines per head for K keepers and L losers, in blocks; 4 bytes of log-weight per
           entry and kv head
Phase      at the prompt, then append; the paper merges while decoding too: write ems(every=64) for that
Scope      layer, per kv head
Reduces to eviction by the same score for zero=1; to full at 100 %
Differs    the paper's text was not at hand: how scores combine, the threshold, the weights of the average and
           the log-weight are reconstructed. Every head keeps the same count, and what leaves unmerged is
           decided by likeness alone, not by a further threshold on the score
Paper      Li et al. 2024, arXiv 2412.08521             Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "at prompt: global_local(32) > merge(similar, weight=mass, keys=keep) @ 25%"
ARGUMENTS = {
    "window": ("global_local.n",),
    "zero": ("merge.zero",),
    "weight": ("merge.weight",),
    "sinks": ("merge.sinks",),
    "recent": ("merge.recent",),
}
PAPERS = ("li2024ems",)
