"""Single tokens are found by walking a graph whose links were learnt from the prompt's queries.

Queries lie elsewhere than keys, so that links between near keys lead them astray. Here keys are linked that
one query of the prompt would read together; the first and the newest tokens are read beside what is found.

Formula    read the `read` keys that a best-first search finds, every query head for itself; one softmax over
           them and what is always read
Units      read, width: entries per query head;  sinks, recent, block: tokens;  degree: links;  sample:
           queries
Cost       8·degree + 1 bytes per key and kv head, and the sample of queries; a step compares the keys that
           it meets
Phase      the graph is made when the prompt ends; later tokens are read until they are a block, which has a
           graph of its own
Scope      per query head
Reduces to topk where the search is as wide as the keys are many
Differs    the public code searches exactly, and the paper's own graph is unknown: degree, beam and width are
           ours. Keys and values lie where the model computes, not on the host
Paper      Liu et al. 2024, arXiv 2409.10516; Chen et al. 2024, arXiv 2408.08933    Confidence  official code
"""

from __future__ import annotations

TEXT = "tokens > graph > each > read(2000, sinks=128, recent=512)"
ARGUMENTS = {
    "read": ("read.amount",),
    "degree": ("graph.degree",),
    "sample": ("graph.sample",),
    "beam": ("graph.beam",),
    "width": ("graph.width",),
    "sinks": ("read.sinks",),
    "recent": ("read.recent",),
    "block": ("read.block",),
}
PAPERS = ("liu2024retrievalattention", "chen2024roargraph")
