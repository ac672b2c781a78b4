"""Who answers for raw entries while decoding: the compiled kernels, a device's, or torch."""

from __future__ import annotations

from torch import Tensor

from keyvalise.ops.fast import choose, decode
from keyvalise.ops.fast.gpu import decode as device


def kernel(
    k: Tensor, v: Tensor, per_head: int, *, kind: choose.Kind = "dense", is_alone: bool = False
) -> str:
    """Its name for `per_head` queries of every kv head: numba, triton or torch; see `choose.TABLE`.

    is_alone   nothing else is merged with the answer
    """
    if k.is_cuda:
        return "triton" if device.available(k, v) else "torch"
    rival: choose.Rival = "sdpa" if is_alone else "attend"
    return "numba" if decode.serves(kind, k, v, per_head=per_head, rival=rival) else "torch"
