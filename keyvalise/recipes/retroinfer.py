"""Clusters of like keys: the best are read, the next best estimated by their means, the others left out.

Keys that point the same way are wanted by the same queries. A cluster's mean tells whether to read it, and
what it would answer if it is not read: as one entry with the mean key, the mean value and the weight of all.

Formula    rank by Σ_g softmax_u(scale·q_g·c_u); read `read` of the entries, estimate `estimate` of them;
           the rest is left out
Units      cluster: tokens on average;  segment: tokens clustered at a time;  read, estimate: entries per kv
           head, or a share of those in clusters;  sinks, recent, block: tokens
Cost       2·D + 2 numbers per cluster and kv head, a sixteenth of the cache, and 4 bytes per entry
Phase      clusters are made when the prompt ends, then of every 1024 tokens that have become old; prompts
           read everything; then every step
Scope      per kv head
Reduces to full attention for read=100%
Differs    shares are of entries, where the official code counts clusters; clusters are read whole, however
           many entries they hold
Paper      Chen et al. 2025, arXiv 2505.02922           Confidence  official code
"""

from __future__ import annotations

TEXT = "clusters(16) > read(1.8%) > estimate(23.2%)"
ARGUMENTS = {
    "cluster": ("clusters.n",),
    "segment": ("clusters.segment",),
    "read": ("read.amount",),
    "estimate": ("estimate.amount",),
    "sinks": ("read.sinks",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("chen2025retroinfer",)
