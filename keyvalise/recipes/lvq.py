"""Everything stays in eight bits over every vector's own range, once the mean is taken away.

Keys have channels that are large in every token. Without their mean what remains of a vector fills its range
evenly, so that one step and one offset serve it as well as one for each group of channels.

Formula    x − μ = ℓ + Δ·q, μ the mean of a head's first entries, ℓ and Δ of the vector;  second=8 writes what
           is left in eight bits more
Units      bits, second: per number;  residual: the most tokens that stay raw
Cost       D·(bits + second)/8 + 4 bytes per key and as many per value, 4 bytes of ordinal; 4·D per kv head
Phase      a token is written when it lies `residual` behind; the mean is found when the first are
Scope      per kv head; every entry leaves alone
Reduces to full while nothing has left the raw window
Differs    made for searching vectors. The mean is of the head's own first entries, keys before the rotary
           embedding; center(side=post) takes them as they are stored. One mean, not the nearest of several
Paper      Aguerrebere et al. 2023, arXiv 2304.04759            Confidence  official code (an old release)
"""

from __future__ import annotations

TEXT = "center > vector(8)"
ARGUMENTS = {
    "bits": ("vector.bits",),
    "second": ("vector.second",),
    "side": ("center.side",),
    "residual": ("vector.residual",),
}
PAPERS = ("aguerrebere2023lvq",)
