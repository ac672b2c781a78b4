"""A growing buffer of keys and values that several values of one tail share.

Knows nothing of ordinals or heads' budgets: only how many entries are written, and who wrote last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def slack(n_entries: int) -> int:
    """Room behind `n_entries` for later ones: an eighth, at least 64."""
    return max(64, n_entries // 8)


@dataclass(slots=True, eq=False)
class Arena:
    """keys [B, H, C, D], values [B, H, C, Dv]; `version` counts the writes, so a stale owner copies
    instead.
    """

    keys: Tensor
    values: Tensor
    version: int = 0

    @staticmethod
    def of(
        shape: tuple[int, int, int], dims: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> Arena:
        """An unwritten arena for (rows, heads, capacity) entries."""
        return Arena(
            torch.empty((*shape, dims[0]), dtype=dtype, device=device),
            torch.empty((*shape, dims[1]), dtype=dtype, device=device),
        )

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    def grown(self, used: int, needed: int) -> Arena:
        """A copy of the first `used` entries with room for `needed` and slack."""
        return self.roomy(used, needed + slack(needed))

    def roomy(self, used: int, capacity: int) -> Arena:
        """A copy of the first `used` entries with room for exactly so many."""
        shape = (self.keys.shape[0], self.keys.shape[1], capacity)
        new = Arena.of(shape, (self.keys.shape[3], self.values.shape[3]), self.keys.dtype, self.keys.device)
        new.keys[:, :, :used] = self.keys[:, :, :used]
        new.values[:, :, :used] = self.values[:, :, :used]
        return new
