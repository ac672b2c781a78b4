"""Stretches of tokens: which one every token belongs to, and units of entries that lie in one."""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.types.data import Entries


def numbered(before: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """The stretch of every token, int32 [B, S], and of the token that comes next, int32 [B].

    before   int [B]: stretches that have ended;  ends: bool [B, S], whether a token ends its own
    """
    after = before[:, None] + ends.cumsum(1, dtype=torch.int32)
    return after - ends.int(), after[:, -1].clone() if ends.shape[1] else before


def column(entries: Entries, name: str, new: Tensor, ordinals: Tensor) -> Tensor:
    """The column of this name [B, H, T] with `new` [B, S] for the entries that have these ordinals [B, S], −1
    for none.
    """
    first = torch.where(ordinals >= 0, ordinals, torch.iinfo(ordinals.dtype).max).amin(1)
    lead = (ordinals < 0).int().cumprod(1).sum(1)
    place = (entries.ordinals - first[:, None, None] + lead[:, None, None]).long()
    is_new = entries.live & (entries.ordinals >= first[:, None, None])
    place = torch.where(is_new, place, 0)
    found = new.float()[:, None].expand(-1, place.shape[1], -1).gather(2, place)
    return torch.where(is_new, found, entries.column(name))


def units(numbers: Tensor, live: Tensor, most: int) -> Tensor:
    """int64 [B, H, T]: entries that follow one another under one number are a unit, of `most` at most.

    numbers   [B, H, T], of entries that ascend
    """
    fresh = torch.ones_like(live)
    fresh[..., 1:] = numbers[..., 1:] != numbers[..., :-1]
    place = torch.arange(live.shape[-1], device=live.device).expand(live.shape)
    begin = torch.where(fresh, place, 0).cummax(-1).values
    cut = fresh | ((place - begin) % most == 0)
    return (cut & live).long().cumsum(-1).sub(1).clamp(min=0)
