"""Tokens that a noisy, flattened softmax would have looked at stay, beside the newest.

Dropping tokens leaves their attention to the others, so that sums of plain attention grow surer of the few
that are left. Gumbel noise on the logits, and a temperature that rises while text is generated, keep the
scores from that certainty; the model's own attention is not touched.

Formula    s_t = Σ over all queries so far of softmax_t((logit + noise)/tau), mean over the group;
           tau = tau_init + tau_delta·(tokens decoded); keep the newest 30 % of the count and the largest
           scores of the others
Units      recent: a share of the count;  budget: a share of the prompt, fixed from then on
           noise: sample, expected (the mean over four draws) or none
Cost       a second pass over the keys of the prompt with a hash per logit; 4 bytes per entry and kv head for
           the whole generation
Phase      at the prompt, then at every step of decoding: one in, one out
Scope      layer, per kv head
Reduces to h2o with recent=30% for noise=none and tau_delta=0; to full at 100 %
Differs    noise is a hash of layer, query head and the ordinals of both tokens, so that a seed gives the same
           text however it is cut; evicted entries are freed (the official code masks them); rows of a batch
           score by themselves
Paper      Adnan et al. 2024, arXiv 2403.09054          Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: gumbel > mean > drop(recent=30%) @ 60% of prompt; every 1 in decode: same"
ARGUMENTS = {
    "noise": ("gumbel.noise",),
    "tau_init": ("gumbel.tau_init",),
    "tau_delta": ("gumbel.tau_delta",),
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("adnan2024keyformer",)
