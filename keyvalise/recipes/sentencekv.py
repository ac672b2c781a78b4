"""Sentences are read whole, those that the sentence being written asks for on average.

SnapKV's votes drop what is clearly not wanted; the rest is kept by sentences, and the mean query of the
present output sentence chooses which of them are read.

Formula    candidates: the votes of the last `window` queries, max-pooled; a sentence is its mean key; ranked
           by the mean of the sentence's queries so far
Units      budget: tokens that stay, several times what is read;  read: entries per kv head;  window, sinks,
           recent, block: tokens
Cost       D numbers per sentence and kv head, 8 + 4·Hq·D bytes per row and layer
Phase      candidates when the prompt ends; then every step, the first of a sentence reads everything
Scope      per kv head
Reduces to snapkv where everything is read
Differs    one candidate set and one ranking per kv head, votes averaged over its group, where the official
           code repeats kv heads; sentences are read whole, not cut at the budget; those written since enter
           units in blocks
Paper      Zhu et al. 2025, arXiv 2504.00970            Confidence  official code
"""

from __future__ import annotations

TEXT = (
    "at prompt: window(32) > mean > pool(7, max) > drop(recent=32) @ 3072tok; "
    "sentences > sofar > read(1024, sinks=32, recent=32, block=64)"
)
ARGUMENTS = {
    "window": ("window.n", "drop.recent", "read.recent"),
    "kernel": ("pool.size",),
    "read": ("read.amount",),
    "most": ("sentences.most",),
    "sinks": ("drop.sinks", "read.sinks"),
    "recent": ("drop.recent", "read.recent"),
    "block": ("read.block",),
}
PAPERS = ("zhu2025sentencekv",)
