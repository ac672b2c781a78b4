"""Keys shrink to the few directions that queries see, then to eight bits; values to eight bits.

Principal components keep what keys are, whether anybody asks for it or not. Queries and keys of a head
differ; two projections learned together keep the products of the one with the other.

Formula    q·k̂ = (Aᵀq)·(Bᵀ(k − μ)) + q·μ, A and B of rank r with the least E(q·k̂ − q·k)²;  Bᵀ(k − μ) in
           eight bits over its own range
Units      rank, values: numbers of a key and of a value, or shares of the head;  residual: tokens that stay
           raw
Cost       r·bits/8 + 4 bytes per key, Dv·bits/8 + 4 per value, 4 bytes of ordinal; projections are fixed
           bytes
Phase      a token is written when it lies `residual` behind
Scope      per kv head; the queries of its group count together
Reduces to the vector code at full rank
Differs    see the transform: the optimum in closed form, nothing kept for a second pass, keys as they are
           stored
Paper      Tepper et al. 2023, arXiv 2312.16335            Confidence  official code (an old release)
"""

from __future__ import annotations

TEXT = "lean > vector(8)"
ARGUMENTS = {
    "rank": ("lean.rank",),
    "values": ("lean.values",),
    "solver": ("lean.solver",),
    "projections": ("lean.projections",),
    "bits": ("vector.bits",),
    "second": ("vector.second",),
    "residual": ("vector.residual",),
}
PAPERS = ("tepper2023leanvec",)
