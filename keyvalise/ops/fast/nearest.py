"""The nearest of many centres, on the CPU, without a matrix of distances: what k-means spends its time on.

Centres are laid out in blocks of as many as go together, [sets, n_blocks, dim, BLOCK], so that a block stays
in the first-level cache while a tile of vectors meets it; where a block is not full, nobody comes near.
"""

from __future__ import annotations

import functools
import struct

import torch
import torch.nn.functional as F
from torch import Tensor

from keyvalise.ops.fast import choose, launch, legible, plan

FEWEST = 32
"""Centres below which most lanes would stay empty."""

LEAST = 2**17
"""Products of numbers that are worth a thread."""


def serves(x: Tensor, centres: Tensor) -> bool:
    """Whether vectors [P, n, d] can be compared here with centres [P, k, d], and faster than by torch."""
    return centres.dtype is torch.float32 and centres.shape[1] >= FEWEST and _is_faster(x, centres.shape[1])


def leads(x: Tensor) -> bool:
    """Whether vectors [P, n, d] can be compared here with one centre, and faster than by torch."""
    return _is_faster(x, 1)


def _is_faster(x: Tensor, n_centres: int) -> bool:
    n_products = x.shape[0] * x.shape[1] * n_centres
    is_faster = choose.is_faster("nearest", x.dtype, n_products, key_dim=x.shape[2])
    is_fit = x.is_cpu and x.dtype is torch.float32 and x.numel() > 0
    return is_faster and is_fit and legible.is_installed()


def best(x: Tensor, centres: Tensor, less: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """int64 [P, n]: the centre with the largest x·c − less, the first of several; float32 [P, n]: how large.

    Shapes   x float32 [P, n, d], centres [P, k, d], none of them empty; less [P, k], None: 0
    Cost     P·n·k·d time; a copy of the centres
    """
    from keyvalise.ops.fast.compare import BLOCK  # the compiler costs a second to import

    n_sets, n, dim = x.shape
    n_blocks = -(-centres.shape[1] // BLOCK)
    fill = n_blocks * BLOCK - centres.shape[1]
    less = centres.new_zeros(centres.shape[:2]) if less is None else less
    given = {
        "x": x.detach().contiguous(),
        "centres": F.pad(centres.detach(), (0, 0, 0, fill)).unflatten(1, (-1, BLOCK)).mT.contiguous(),
        "less": F.pad(less.detach(), (0, fill), value=torch.inf),
        "own": torch.empty(n_sets, n, dtype=torch.long),
        "found": torch.empty(n_sets, n),
    }
    _run("assign", given, (n_sets, n, dim, n_blocks), x.numel() * n_blocks * BLOCK)
    return given["own"], given["found"]


def approach_(x: Tensor, distance: Tensor, centres: Tensor) -> Tensor:
    """distance ← min(distance, ‖x − c‖²), exactly zero where x is c; and returns it.

    Shapes   distance float32 [P, n], x float32 [P, d, n], contiguous, one centre of every set [P, d]
    Cost     P·n·d time
    """
    n_sets, dim, n = x.shape
    given = {"x": x, "centres": centres.contiguous(), "found": distance}
    _run("approach", given, (n_sets, n, dim, 0), x.numel())
    return distance


def warm() -> None:
    """Compile what compares, or load it from disk."""
    for kind in ("assign", "approach"):
        _worker(kind)


def _run(kind: str, given: dict[str, Tensor], counts: tuple[int, ...], work: int) -> None:
    told = {name: tensor.data_ptr() for name, tensor in given.items()}
    told |= dict(zip(("n_sets", "n", "dim", "n_blocks"), counts, strict=True))
    record = struct.pack(f"={len(plan.COMPARING)}q", *(told.get(name, 0) for name in plan.COMPARING))
    n_threads = max(1, min(torch.get_num_threads(), work // LEAST))
    launch.deal(_worker(kind), record, n_threads)


@functools.cache
def _worker(kind: str) -> launch.Worker:
    from keyvalise.ops.fast import nearest_kernel  # the compiler costs a second to import

    return launch.Worker.of(nearest_kernel.build(kind))
