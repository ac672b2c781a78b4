"""Tokens stay by how far the attention output would move without them.

Dropping a token moves the output by a/(1 − a) times the distance between the output and the token's value:
this is exact for one token, and needs nothing but attention and values. A token whose value lies where the
output lies anyway is the first to go, however much attention it has.

Formula    a_t = attention of the last `window` queries on t, averaged over them and over `pool` neighbours,
           as a share of all that is held; s_t = sqrt(Σ_g (a_gt/(1 − a_gt))²·‖o_g − v_t‖²), o_g = Σ_t
           a_gt·v_t, g over the query heads of the group; the window itself always stays
Units      window: queries, and as many protected newest tokens;  pool: tokens, odd
           centre=mean compares with the mean value instead of o: FastCAOTE
Cost       window·T logits per query head and G·T·D per kv head at the prompt and at every step; the window's
           queries are held while generating
Phase      at the prompt, then at every step of decoding: one in, one out
Scope      layer, per kv head
Reduces to snapkv's order where one value is as far from the output as any other and attention is spread
           thinly; to full at 100 %
Differs    SnapKV is the base, the best of the three published; `h2o > output_error` and `tova > output_error`
           are the others. The prompt is cut down at its end; a prefill chunk of 128, or `every 128 in
           prompt`, is the published schedule in blocks. Groups of heads are ours: the error of the
           concatenated heads (heads=reduced takes the mean of attention first)
Paper      Goel et al. 2025, arXiv 2504.14051           Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "at prompt, every 1 in decode: window(32) > pool(5) > output_error > drop(recent=32) @ 25%"
ARGUMENTS = {
    "window": ("window.n", "drop.recent"),
    "pool": ("pool.size",),
    "heads": ("output_error.group",),
    "centre": ("output_error.centre",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("goel2025caote",)
