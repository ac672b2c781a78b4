"""Which units are read: `ops.units.votes` and `ops.units.within` on the CPU, without sorting them all."""

from __future__ import annotations

import functools
import struct

import torch
from torch import Tensor

from keyvalise.ops.fast import launch, plan

LEAST = 2**14
"""Numbers that are worth a thread."""


def votes(logits: Tensor, sizes: Tensor) -> Tensor:
    """As `units.votes`.

    Cost   two rounds over all logits
    """
    n_lists, n_units = sizes.shape[0] * sizes.shape[1], sizes.shape[2]
    found = torch.zeros(sizes.shape, dtype=torch.float32)
    if found.numel():
        given = {"asked": logits.float().contiguous(), "sizes": sizes.int().contiguous(), "found": found}
        _run("votes", given, n_lists, logits.numel() // (n_lists * n_units), n_units)
    return found


def within(ranking: Tensor, sizes: Tensor, amounts: tuple[Tensor, ...]) -> list[Tensor]:
    """As `units.within`.

    Cost   two rounds over all units, and two more for every amount
    """
    n_lists, n, n_amounts = ranking.shape[0] * ranking.shape[1], ranking.shape[-1], len(amounts)
    found = torch.empty(n_lists, n_amounts, n, dtype=torch.long)
    counts = torch.zeros(n_lists, n_amounts, dtype=torch.long)
    if found.numel():
        edges = torch.stack([*amounts], -1).view(n_lists, -1).cumsum(-1)
        given = {"asked": ranking.float().contiguous(), "sizes": sizes.int().contiguous(), "edges": edges}
        _run("within", {**given, "found": found, "counts": counts}, n_lists, n_amounts, n)
    chosen = []
    for i in range(n_amounts):
        most = int(counts[:, i].max()) if n_lists else 0
        is_one = torch.arange(most) < counts[:, i, None]
        chosen.append(torch.where(is_one, found[:, i, :most], -1).view(*ranking.shape[:2], -1))
    return chosen


def warm() -> None:
    """Compile what chooses units, or load it from disk."""
    for kind in ("votes", "within"):
        _worker(kind)


def _run(kind: str, given: dict[str, Tensor], n_lists: int, n_each: int, n_units: int) -> None:
    """Lists are dealt to as many threads as they are worth."""
    told = {name: tensor.data_ptr() for name, tensor in given.items()}
    told |= {"n_lists": n_lists, "n_each": n_each, "n_units": n_units}
    record = struct.pack(f"={len(plan.CHOOSING)}q", *(told.get(name, 0) for name in plan.CHOOSING))
    n_threads = max(1, min(torch.get_num_threads(), n_lists, given["asked"].numel() // LEAST))
    launch.deal(_worker(kind), record, n_threads)


@functools.cache
def _worker(kind: str) -> launch.Worker:
    from keyvalise.ops.fast import choosing_kernel  # the compiler costs a second to import

    return launch.Worker.of(choosing_kernel.build(kind))
