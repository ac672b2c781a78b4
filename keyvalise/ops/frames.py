"""Windows of a row's tokens, counted from its first: the same ones however calls are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.types.data import Stretch

Pairs = tuple[tuple[Tensor, Tensor], ...]
"""What is kept of the window that is not complete, and what is new."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece by windows: what is kept of the present one of every row, then what is new.

    base, kept, new, lead   int64 [B]: the ordinal with which the present window begins, tokens kept of it,
                            new ones, padding before those;  done: windows that are complete; most: in any row
    """

    window: int
    most: int
    base: Tensor
    kept: Tensor
    new: Tensor
    lead: Tensor
    done: Tensor

    @staticmethod
    def of(stretch: Stretch, window: int, device: Any) -> Frame:
        """Windows begin at multiples of `window` of every row's own tokens."""
        kept = [start % window for start in stretch.starts]
        done = [(old + n) // window for old, n in zip(kept, stretch.counts, strict=True)]
        base = [start - old for start, old in zip(stretch.starts, kept, strict=True)]
        rows = torch.tensor([base, kept, stretch.counts, stretch.leads, done]).to(device)
        return Frame(window, max(done), *rows)

    @property
    def ordinals(self) -> Tensor:
        """int64 [B, (most + 1)·window], −1 for what is yet to come."""
        slot = torch.arange((self.most + 1) * self.window, device=self.base.device)
        return torch.where(slot < (self.kept + self.new)[:, None], slot + self.base[:, None], -1)

    def taken(self, old: Tensor, x: Tensor, turn: Tensor) -> Tensor:
        """The window with this number [B] out of old [B, h, window, D] and the piece's x [B, h, S, D], zeros
        for what is yet to come.
        """
        place = torch.arange(self.window, device=old.device)
        slot = turn[:, None] * self.window + place
        is_old = (slot < self.kept[:, None])[:, None, :, None]
        is_new = (slot < (self.kept + self.new)[:, None])[:, None, :, None] & ~is_old
        column = (slot - self.kept[:, None] + self.lead[:, None]).clamp(0, x.shape[2] - 1)
        found = x.gather(2, column[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])).to(old.dtype)
        return torch.where(is_new, found, torch.where(is_old, old, 0))

    def numbered(self, own: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers int64 [B, (most + 1)·window] that go on through all windows, and how many there are, int32
        [B]. A window that is not complete has one number, the next.

        own     int64 [B, most, window]: numbers within each window, from 0; anything where it is not complete
        count   int32 [B]: those of earlier windows
        """
        is_done = torch.arange(self.most, device=own.device) < self.done[:, None]
        own = functional.pad(torch.where(is_done[..., None], own, 0), (0, 0, 0, 1))
        ends = torch.where(is_done, own[:, :-1, -1] + 1, 0).cumsum(1)
        before = count[:, None] + functional.pad(ends, (1, 0))
        return (own + before[..., None]).flatten(1), before[:, -1].int()
