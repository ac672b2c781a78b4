"""No token is left behind: those that draw little attention go on living in two bits.

Dropping loses what a later question may need. Attention decides who keeps full precision, as in h2o; all
others are written in few bits, with loud channels of keys scaled down and those of queries up, so that two
bits suffice.

Formula    s_t = sum over all queries so far of the attention on t, mean over the group; the newest half of
           the count and the largest of the others stay raw, the rest is coded; b_c = √(max|q_c| / max|k_c|)
Units      code: of the losers, in the words of a recipe;  recent: a share of the count
Cost       a second pass over the keys of the prompt; 4 bytes per raw entry and kv head; an ordinal per entry
Phase      at the prompt, then at every step of decoding: one in, one demoted
Scope      layer, per kv head
Reduces to h2o where the code kept nothing; to the code alone at its least share; to full at 100 %
Differs    shares are of real bytes: the paper's 20 % at 16 bits beside 2-bit losers is @ 33% and what
           ordinals take. Groups of 64 channels, half of the paper's heads of 128
Paper      Yang et al. 2024, arXiv 2402.18096           Confidence  paper
"""

from __future__ import annotations

TEXT = "at prompt: mass > mean > demote(int2, recent=50%) @ 40%; every 1 in decode: same"
ARGUMENTS = {
    "code": ("demote.code",),
    "balance": ("demote.balance",),
    "sinks": ("demote.sinks",),
    "recent": ("demote.recent",),
}
PAPERS = ("yang2024mikv",)
