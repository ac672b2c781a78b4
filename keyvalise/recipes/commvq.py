"""Everything stays in two bits or one, in tables trained for the model: keys as sums of codewords that turn
as keys do, values as signed sums of vectors.

A block that commutes with all rotations of a pair of channels is itself a scaled rotation, a complex
number. So codewords of complex numbers are coded once, before the rotary embedding, and may be turned when
they are read.

Formula    k̂ = Σ_r (c[r, A_r] + i·c[r, B_r]), 12 bits for each stage r;  v̂ = μ + f·Σ_k s_k·e_k, s_k = ±1
Units      bits per number;  residual: the most tokens that stay raw
Cost       ⌈12·⌊D·bits/12⌋/8⌉ bytes per key, D·bits/8 + 2 per value, 4 bytes of ordinal: 2.06 and 1.03 bits
           per number at D = 128, 2.25 and 1.13 at D = 32. Tables of 2·R·64·D + 2·D·(3·D + 1) bytes, R =
           ⌊D/6⌋ stages, for every layer and kv head are fixed bytes
Phase      a token is written when it lies `residual` behind
Scope      per kv head; every entry leaves alone, so that dropping frees its bytes at once
Needs      tables of the model: `keyvalise calibrate`
Reduces to full while nothing has left the raw window
Differs    values are coded per head, and their bits are searched instead of foretold by a network
Paper      Li et al. 2025, arXiv 2506.18879            Confidence  official code
"""

from __future__ import annotations

TEXT = "commvq(2)"
ARGUMENTS = {
    "bits": ("commvq.bits",),
    "residual": ("commvq.residual",),
    "codebook": ("commvq.codebook",),
}
PAPERS = ("li2025commvq",)
