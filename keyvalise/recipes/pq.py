"""Keys and values fall into pieces, each written as the number of its nearest codeword.

What occurs often gets codewords of its own, whatever shape it has: a few bytes say a vector about as well as
twice as many levels evenly spaced. Values are read without spelling one out: mass is added up per codeword.

Formula    x̂ = c_{1,i₁} ‖ … ‖ c_{m,i_m}, codewords by k-means for every layer, kv head and piece
Units      parts: pieces;  codewords: of each;  side: of the rotary embedding on which keys are coded;
           residual: the most tokens that stay raw
Cost       2·parts·log₂(codewords)/8 bytes per entry, 4 bytes of ordinal; the books are fixed bytes
Phase      a token is written when it lies `residual` behind
Scope      per kv head; the queries of its group share its books
Reduces to full while nothing has left the raw window
Differs    made for searching vectors; books of keys before the rotary embedding, which smears them otherwise
Paper      Jegou et al. 2011, IEEE TPAMI 33(1)            Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "pq"
ARGUMENTS = {
    "parts": ("pq.parts",),
    "codewords": ("pq.codewords",),
    "norm": ("pq.norm",),
    "side": ("pq.side",),
    "index": ("pq.index",),
    "codebook": ("pq.codebook",),
    "residual": ("pq.residual",),
}
PAPERS = ("jegou2011pq",)
