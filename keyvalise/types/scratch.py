"""What one layer leaves for the next one in the same call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from keyvalise.types.data import Stretch


@dataclass
class Scratch:
    """Nothing in it outlives the call that needs it.

    Both find, by the stretch of a piece, keys [N, H, D] before the rotary embedding and values [N, H, Dv],
    float32: `read`, of all that the layer below holds in code; `written`, of what it has just written.
    """

    read: dict[Stretch, tuple[Tensor, Tensor]] = field(default_factory=dict)
    written: dict[Stretch, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget an earlier call."""
        self.read.clear()
        self.written.clear()
