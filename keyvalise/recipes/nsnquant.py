"""Everything stays in two bits or one: any window of tokens is made to look like noise, and noise has one
best codebook.

A token is scaled to unit size, its window's mean is taken away, and it is scaled again; mixed by a Hadamard
matrix, its channels then look like independent normal numbers whatever the model, the layer and the text. So
one codebook of eight numbers, trained on noise, serves all of them, and nothing has to be calibrated.

Formula    see the part: x̂ = s₁·(s₂·Hc + o), c the nearest of 256 vectors, with signs aside in two bits
Units      bits per number;  group: tokens of a window;  residual: the most tokens that stay raw
Cost       bits + 20/D + (4 + 32/64 + 32/D)/group per number: 2.23 bits at D = 128, 2.72 at D = 32, one less
           with bits=1; 4 bytes of ordinal. One codebook of 16 KB is fixed bytes
Phase      a window is written when it lies `residual` behind
Scope      per kv head; a window's mean stays until the last of its entries leaves
Reduces to full while nothing has left the raw window
Differs    what is rounded of a window's frame is made up for by the code of what remains
Paper      Son et al. 2025, arXiv 2505.18231            Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "nsnquant(2)"
ARGUMENTS = {
    "bits": ("nsnquant.bits",),
    "group": ("nsnquant.group",),
    "residual": ("nsnquant.residual",),
    "codebook": ("nsnquant.codebook",),
}
PAPERS = ("son2025nsnquant",)
