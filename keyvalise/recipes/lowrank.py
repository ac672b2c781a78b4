"""Keys and values by their strongest directions, in half precision.

The keys of a head lie near a plane of few dimensions, its values less so. The plane is found once for a
model; an entry is its place on it. Any code may stand behind: svd(rank=25%) > int4.

Formula    x̂ = (x − μ)·B·Bᵀ + μ, B the first eigenvectors of the covariance of keys, or of values
Units      rank, values: numbers of a key and of a value, or shares of the head;  side: of the rotary
           embedding on which keys are taken;  residual: the most tokens that stay raw
Cost       2·(r + r_v) bytes per entry, 4 bytes of ordinal; bases are fixed bytes
Phase      a token is written when it lies `residual` behind
Scope      per kv head
Reduces to half precision at full rank
Differs    from compressed projections: the model's weights stay as they are, latents are made of keys
Paper      none: the Karhunen-Loève transform
"""

from __future__ import annotations

TEXT = "svd > fp16"
ARGUMENTS = {
    "rank": ("svd.rank",),
    "values": ("svd.values",),
    "side": ("svd.side",),
    "basis": ("svd.basis",),
    "residual": ("fp16.residual",),
}
PAPERS: tuple[str, ...] = ()
