"""One gate per kv head between all of the context and a stream of it: sinks and the newest tokens.

    out = full + (1 − gate)·(stream − full)

so that a gate of 1 is the model itself, bit for bit. Knows how gates act, not how they are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.train.attention import Seam
from keyvalise.types.errors import InputError
from keyvalise.types.geometry import Geometry

BLOCK = 256
"""Queries that stream together."""


@dataclass(frozen=True)
class Gates:
    """values   float32 [handled layers, H], the only thing that learns;  layers: their numbers in the model
    n_layers of the whole model;  sinks, recent: tokens that a stream sees, the newest included
    """

    values: Tensor
    layers: tuple[int, ...]
    n_layers: int
    sinks: int
    recent: int

    @staticmethod
    def open(model: Any, sinks: int, recent: int) -> Gates:
        """All gates 1, on the model's device.

        Raises   InputError for a stream that sees nothing, or where no layer keeps a cache that grows
        """
        if sinks < 0 or recent < 1:
            raise InputError(f"a stream needs sinks >= 0 and recent >= 1, got {sinks} and {recent}")
        layers = models.host_layers(model)
        handled = models.handled(layers)
        if not handled:
            raise InputError(f"no layer of {type(model).__name__} keeps a cache that grows")
        n_heads = Geometry.of(models.text_config(model)).n_kv_heads
        values = torch.ones(len(handled), n_heads, device=model.device, requires_grad=True)
        return Gates(values, handled, len(layers), sinks, recent)

    def clamp_(self) -> None:
        """Back into 0 … 1, as before every step."""
        with torch.no_grad():
            self.values.clamp_(0, 1)

    @property
    def size(self) -> Tensor:
        """Mean |gate|, which a penalty presses down."""
        return self.values.abs().mean()

    def table(self) -> Tensor:
        """[L, H] over all layers of the model, those that are not handled 0."""
        table = torch.zeros(self.n_layers, self.values.shape[1])
        table[list(self.layers)] = self.values.detach().clamp(0, 1).cpu()
        return table

    def of(self, layer: int) -> Tensor | None:
        """The gates [H] of a layer, None where it has none."""
        return self.values[self.layers.index(layer)] if layer in self.layers else None

    def both(self, seam: Seam) -> Tensor:
        """Both branches from the same states: gradients flow through full and stream."""
        gate = self.of(seam.layer)
        if gate is None:
            return seam.native()
        return mixed(gate, seam.native(), stream(seam, self.sinks, self.recent))

    def taught(self, seam: Seam) -> Tensor:
        """Two halves of a batch: teachers, all full, and their students, whose full branch is the teacher's
        output.
        """
        half = seam.query.shape[0] // 2
        gate = self.of(seam.layer)
        if gate is None:
            return seam.native()
        with torch.no_grad():
            teacher = seam.rows(slice(half)).native()
        student = stream(seam.rows(slice(half, None)), self.sinks, self.recent)
        return torch.cat([teacher, mixed(gate, teacher, student)])


def mixed(gate: Tensor, full: Tensor, streamed: Tensor) -> Tensor:
    """gate [H] between two outputs [B, S, Hq, Dv], in float32; gate 1 gives `full` itself."""
    shut = (1 - gate).repeat_interleave(full.shape[2] // gate.shape[0])[:, None]
    return full + (shut * (streamed.float() - full.float())).to(full.dtype)


def stream(seam: Seam, sinks: int, recent: int) -> Tensor:
    """Attention to the first `sinks` columns and the newest `recent` of every query, block by block."""
    width, n = seam.query.shape[2], seam.keys.shape[2]
    if n <= sinks + recent:
        return seam.native()
    blocks = []
    for begin in range(0, width, BLOCK):
        own = seam.columns_of(begin, min(begin + BLOCK, width))[:, None]
        first, last = n - width + begin, n - width + min(begin + BLOCK, width)
        low = max(first - recent + 1, 0)
        # Sinks that the newest columns hold already are not taken twice.
        columns = torch.arange(last, device=own.device)
        columns = torch.cat([columns[: min(sinks, low)], columns[low:]])
        is_seen = (columns <= own) & ((columns < sinks) | (own - columns < recent))
        blocks.append(seam.over(columns, begin, begin + len(own), is_seen))
    return torch.cat(blocks, 1)
