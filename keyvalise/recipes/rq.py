"""Keys and values as sums of codewords, each nearest to what those before it left.

Every stage sees the whole vector, so that it can say what several pieces have in common; the price is a book
of whole vectors for every stage.

Formula    x̂ = Σ_r c_{r,i_r}, codewords by k-means of what the stages before left
Units      stages: codewords of a vector;  codewords: of a stage;  beam: sums that the search hands on;  side:
           of the rotary embedding on which keys are coded;  residual: the most tokens that stay raw
Cost       2·stages·log₂(codewords)/8 bytes per entry, 4 bytes of ordinal; the books are fixed bytes
Phase      a token is written when it lies `residual` behind
Scope      per kv head; the queries of its group share its books
Reduces to full while nothing has left the raw window
Differs    stages are not tuned together; books of keys before the rotary embedding
Paper      Juang and Gray 1982, ICASSP; Babenko and Lempitsky 2014, CVPR            Confidence  reconstruction
"""

from __future__ import annotations

TEXT = "rq"
ARGUMENTS = {
    "stages": ("rq.stages",),
    "codewords": ("rq.codewords",),
    "beam": ("rq.beam",),
    "norm": ("rq.norm",),
    "side": ("rq.side",),
    "index": ("rq.index",),
    "codebook": ("rq.codebook",),
    "residual": ("rq.residual",),
}
PAPERS = ("juang1982rq", "babenko2014aq")
