"""The rotary embedding at rows of a run, for codes that look behind it; nothing where there is none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import rope
from keyvalise.types.geometry import Rope


@dataclass(frozen=True, slots=True)
class Turn:
    """How far every row has been turned: positions int [N], or None: not at all."""

    rope: Rope | None
    positions: Tensor | None

    def rows(self, rows: slice) -> Turn:
        """Of some of the rows."""
        return self if self.positions is None else Turn(self.rope, self.positions[rows])

    def back(self, x: Tensor) -> Tensor:
        """Rows [N, D] as they were before the model turned and scaled them."""
        if self.rope is None or self.positions is None:
            return x
        return rope.unrotate(x, self.positions, self.rope)

    def forth(self, x: Tensor) -> Tensor:
        """Rows as the model turns and scales them."""
        if self.rope is None or self.positions is None:
            return x
        return rope.apply(x, self.positions, self.rope)

    def on(self, x: Tensor) -> Tensor:
        """Rows turned and as long as they were."""
        if self.rope is None or self.positions is None:
            return x
        angles = self.rope.angles(self.positions)
        return rope.rotate(x, *angles, self.rope.is_interleaved, self.rope.width)

    def scaled(self, x: Tensor) -> Tensor:
        """Rows [..., D] whose turned channels the model's scaling multiplies."""
        if self.rope is None or self.positions is None or self.rope.scaling == 1:
            return x
        width = self.rope.width
        return torch.cat([x[..., :width] * self.rope.scaling, x[..., width:]], -1)
