"""Who answers for raw entries while decoding: the compiled kernels, a device's, or torch."""

from __future__ import annotations

from torch import Tensor

from keyvalise.ops.fast import choose, decode
from keyvalise.ops.fast.gpu import decode as device


def kernel(
    k: Tensor, v: Tensor, per_head: int, *, kind: choose.Kind = "dense", is_alone: bool = False
) -> str:
    """ "numba", "triton" or "torch", for `per_head` queries of every kv head; see `choose.TABLE`.

    is_alone   nothing else is merged with the answer
    """
    if k.is_cuda:
        return "triton" if device.available(k, v) else "torch"
    rival: choose.Rival = "sdpa" if is_alone else "attend"
    dim = k.shape[-1]
    is_faster = choose.is_faster(kind, k.dtype, k.numel() // dim, per_head=per_head, key_dim=dim, rival=rival)
    return "numba" if is_faster and decode.available(k, v) else "torch"
