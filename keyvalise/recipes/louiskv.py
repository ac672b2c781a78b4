"""A new choice only where the queries turn elsewhere; units of prompt and answer are cut apart.

Neighbouring steps want the same context. While the direction of the queries stays, the last choice holds; the
prompt is read by clusters of like keys, what was written since by the stretches between two turns.

Formula    a new choice where mean_h cos(q_{t−1}, q_t) < tau; ranked by Σ_g softmax_u(scale·q_g·c_u)
Units      read: entries per kv head;  cluster: entries on average;  sinks, recent, block: tokens
Cost       D numbers per unit and kv head, 8 + 4·Hq·D bytes per row and layer; a choice costs nothing where it
           holds
Phase      clusters when the prompt ends; then where queries drift
Scope      per kv head; the trigger is the layer's
Reduces to reading anew at every step for tau above 1
Differs    tau is the paper's for one model; queries are compared un-rotated; sinks, recents, the least length
           of a stretch and how many tokens enter units together are ours: the paper leaves them open
Paper      Wu et al. 2025, arXiv 2510.11292             Confidence  paper
"""

from __future__ import annotations

TEXT = "stretches(16) > drift > read(1024, block=256)"
ARGUMENTS = {
    "tau": ("drift.tau", "stretches.tau"),
    "least": ("drift.least", "stretches.least"),
    "cluster": ("stretches.n",),
    "read": ("read.amount",),
    "sinks": ("read.sinks",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("wu2025louiskv",)
