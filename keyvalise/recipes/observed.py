"""Tokens stay by the attention they drew, each divided by how many queries could see it.

H2O's sum favours early tokens, which more queries saw; the mean over those queries does not. Nothing is
protected: the newest tokens have few witnesses and stand or fall by them.

Formula    s_t = (sum over queries of the attention on t) / (queries at or behind t), mean over the group
Phase      at the prompt, then append
Scope      layer, per kv head
Reduces to h2o's prompt without recents, up to the division
Differs    the score is a rival library's, not the paper's own; there, as here, only the prompt counts
Paper      Zhang et al. 2023, arXiv 2306.14048 (the sum)    Confidence  official code
"""

from __future__ import annotations

TEXT = "at prompt: mass(average=true) > mean > drop @ 25%"
ARGUMENTS = {
    "sinks": ("drop.sinks",),
    "recent": ("drop.recent",),
}
PAPERS = ("zhang2023h2o",)
