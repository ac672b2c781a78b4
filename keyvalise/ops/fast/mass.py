"""Attention mass per entry on the CPU: torch multiplies, compiled loops weigh logits that are in the caches.

The namesakes of `ops.mass`, with the same arguments and answers. A list is a kv head of a row; keys are
widened list by list, and whatever lies in dead slots stays in their columns, which nobody sees.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from keyvalise.ops.fast import arrivals, choose, launch, legible, plan
from keyvalise.types.data import Entries, Piece
from keyvalise.types.geometry import Geometry

BLOCK_BYTES = 8 * 2**20
"""Most bytes of logits that are multiplied before they are weighed, but of one query: smaller blocks make
worse matrix products, larger ones leave the caches.
"""

LEAST = 2**15
"""Logits that are worth a thread."""


def serves(kind: Literal["sums", "window"], q: Tensor, entries: Entries) -> bool:
    """Whether these can be weighed here, and faster than by torch; gradients are torch's affair."""
    n_lists, n_entries = entries.live[:, :, 0].numel(), entries.live.shape[2]
    per_head = q.shape[0] * q.shape[1] * q.shape[2] // max(1, n_lists)
    is_faster = choose.is_faster(kind, q.dtype, n_lists * n_entries, per_head=per_head, key_dim=q.shape[3])
    if not (is_faster and q.is_cpu and entries.live.is_cpu and legible.is_installed()):
        return False
    return not (torch.is_grad_enabled() and (q.requires_grad or entries.keys().requires_grad))


def column_sums(geometry: Geometry, piece: Piece, entries: Entries) -> Tensor:
    """As `ops.mass.column_sums`.

    Cost   Hq·S·T·D time, what cannot be seen left out; a block of logits and keys of its lists in float32
    """
    lists = _Lists.of(geometry, piece.q, piece.stretch.ordinals(), entries)
    lse = piece.lse.float().unflatten(1, (geometry.n_kv_heads, -1)).flatten(0, 1)
    n_lists, group, n_queries, n_entries = lists.shape
    out = torch.zeros(n_lists, 1, n_entries)
    per_query = max(1, 4 * group * n_entries)
    # Few lists and many queries make better matrix products than many lists and few queries.
    n_together = max(1, BLOCK_BYTES // (per_query * min(max(1, n_queries), 64)))
    step = max(1, BLOCK_BYTES // (per_query * n_together))
    for first in range(0, n_lists, n_together):
        some = slice(first, first + n_together)
        keys = lists.keys[some].float()
        for begin in range(0, n_queries, step):
            columns = slice(begin, begin + step)
            seen = arrivals.seen(piece.stretch, min(begin + step, n_queries), n_entries)
            block = _Block.of(lists, some, columns, keys[:, :seen])
            block.run("columns", shift=lse[some, :, columns].flatten(1, 2).contiguous(), out=out[some])
    return (out / group).view(entries.live.shape)


def window_mass(geometry: Geometry, q: Tensor, ordinals: Tensor, entries: Entries) -> Tensor:
    """As `ops.mass.window_mass`.

    Cost   Hq·n·T·D time; G·n·T floats for the logits of a list
    """
    lists = _Lists.of(geometry, q, ordinals, entries)
    n_lists, group, n_queries, n_entries = lists.shape
    votes = torch.zeros(n_lists, group, n_entries)
    # Keys of a block are widened beside its logits.
    per_entry = 4 * max(1, group * n_queries, geometry.key_dim)
    n_together = max(1, BLOCK_BYTES // (per_entry * max(1, n_entries)))
    step = max(1, BLOCK_BYTES // (per_entry * n_together))
    for first in range(0, n_lists, n_together):
        some, blocks = slice(first, first + n_together), []
        norms = torch.tensor([-torch.inf, 0.0]).repeat(len(votes[some]), group * n_queries, 1)
        for begin in range(0, n_entries, step):
            keys = lists.keys[some, begin : begin + step].float()
            blocks.append(_Block.of(lists, some, slice(None), keys, begin))
            blocks[-1].run("norms", norms=norms)
        shift = norms[..., 0] + norms[..., 1].log()
        for block in blocks:
            block.run("columns", shift=shift, out=votes[some], is_raw=False)
    oldest = (
        lists.came.amin(-1, keepdim=True) if n_entries else lists.came.new_full((n_lists, 1), arrivals.NEVER)
    )
    n_voters = (oldest <= lists.newest).sum(-1).clamp(min=1)
    return votes.div_(n_voters[:, None, None]).view(*q.shape[:2], n_entries)


@dataclass(frozen=True, slots=True)
class _Lists:
    """q [L, G, S, D], keys [L, T, D], came int32 [L, T], newest int32 [L, S], logw float32 [L, T] or None."""

    q: Tensor
    keys: Tensor
    came: Tensor
    newest: Tensor
    logw: Tensor | None
    geometry: Geometry

    @staticmethod
    def of(geometry: Geometry, q: Tensor, newest: Tensor, entries: Entries) -> _Lists:
        n_heads = entries.live.shape[1]
        logw = None if entries.logw is None else entries.logw.float().contiguous().flatten(0, 1)
        return _Lists(
            q.unflatten(1, (n_heads, -1)).flatten(0, 1),
            entries.keys().flatten(0, 1),
            arrivals.came(entries).flatten(0, 1),
            newest.int().repeat_interleave(n_heads, 0),
            logw,
            geometry,
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Lists, query heads of each, queries of each head, entries."""
        n_lists, group, n_queries, _ = self.q.shape
        return n_lists, group, n_queries, self.came.shape[1]


@dataclass(frozen=True, slots=True)
class _Block:
    """Logits [l, R, n] of some lists, of R = G·s queries, and of n entries from `begin` on."""

    lists: _Lists
    some: slice
    newest: Tensor
    logits: Tensor
    begin: int

    @staticmethod
    def of(lists: _Lists, some: slice, columns: slice, keys: Tensor, begin: int = 0) -> _Block:
        q = (lists.q[some, :, columns].float() * lists.geometry.scale).flatten(1, 2)
        return _Block(lists, some, lists.newest[some, columns].contiguous(), q @ keys.mT, begin)

    def run(self, kind: str, *, is_raw: bool = True, **given: Tensor) -> None:
        """Weigh it; what `norms` has done to logits is not done again."""
        if self.logits.numel() == 0:
            return
        (n_lists, n_rows, n_entries), lists = self.logits.shape, self.lists
        told = {name: tensor.data_ptr() for name, tensor in given.items()}
        told |= {"x": self.logits.data_ptr(), "newest": self.newest.data_ptr()}
        told["came"] = lists.came[self.some].data_ptr() + 4 * self.begin
        if "out" in given:
            told["out"] += 4 * self.begin
        if lists.logw is not None and is_raw:
            told["logw"] = lists.logw[self.some].data_ptr() + 4 * self.begin
        n_queries, per = self.newest.shape[1], given["out"].shape[1] if "out" in given else 1
        counts = (n_lists, n_rows, n_queries, n_entries, lists.came.shape[1], per)
        softcap = lists.geometry.softcap if is_raw else None
        addresses = (told.get(name, 0) for name in plan.WEIGHING)
        record = struct.pack(f"={len(plan.WEIGHING)}q{len(counts)}qd", *addresses, *counts, softcap or 0.0)
        n_threads = max(1, min(torch.get_num_threads(), self.logits.numel() // LEAST))
        launch.deal(_worker(kind), record, n_threads)


def warm() -> None:
    """Compile what weighs logits, or load it from disk."""
    for kind in ("norms", "columns"):
        _worker(kind)


@functools.cache
def _worker(kind: str) -> launch.Worker:
    from keyvalise.ops.fast import mass_kernel  # the compiler costs a second to import

    return launch.Worker.of(mass_kernel.build(kind))
