"""Every head follows the cheapest of five policies that recovers its attention to the prompt.

Some heads look at the first token only, some at punctuation, some at few or at the newest tokens, some at
everything. When the prompt ends, each is given the first of the nested policies special, + punctuation,
+ frequent, + local, all, whose entries received the share `threshold` of its attention, and follows it while
decoding: heads of special tokens store no new one, those of punctuation only that, frequent and local ones
replace, full ones append.

Formula    the first policy C with 1 − lost(C) ≥ threshold;  lost(C) = mean over the queries of the attention
           on what C does not keep, where the newest tokens of every query are local
Units      frequent, local: tokens, or shares of the prompt;  threshold: the share that is recovered
Cost       a second pass over the keys of the prompt; 12 bytes per entry and kv head while decoding
Needs      token ids, and the classes of the model's tokens: `keyvalise profile` writes them
Phase      at the prompt, then at every step of decoding; heads are not profiled again before the next prompt
Scope      layer, per kv head
Reduces to full for threshold=1 @ 99%; to the special tokens for threshold=0
Differs    the budget is an upper bound: where the policies hold more, every layer lowers its threshold until
           they fit (`allocate.threshold.knob`), so that @ 99% is the published system. Heads of a group share
           a policy: by their mean, or by their largest attention with reduce=max, which keeps at least what
           each of them would. A head that has dropped something does not take up a policy that needs it
Paper      Ge et al. 2023, arXiv 2310.01801             Confidence  paper
"""

from __future__ import annotations

TEXT = "at prompt, every 1 in decode: policies > threshold > drop @ 50%"
ARGUMENTS = {
    "threshold": ("threshold.threshold",),
    "frequent": ("policies.frequent",),
    "local": ("policies.local",),
    "reduce": ("policies.reduce",),
    "classes": ("policies.classes",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("ge2023fastgen",)
