"""Keys or values of a sheet as a plain matrix: unturned, one row per token, one column per channel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyvalise.ops import repeats, rope
from keyvalise.store.stream.sheet import Sheet

Kind = Literal["keys", "values"]
Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

KINDS: tuple[Kind, Kind] = ("keys", "values")

_REACH = {torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9, torch.float32: 2.0**-16}
"""How far unturned keys of one token may lie apart through rounding alone, as a share of their pairs."""


def matrix(sheet: Sheet, kind: Kind) -> Singles:
    """Float32 [N, H·D]; keys are turned back to position 0."""
    x = sheet.keys if kind == "keys" else sheet.values
    if kind == "keys" and sheet.rope is not None:
        x = rope.unrotate(x, sheet.positions, sheet.rope)
    return x.float().transpose(0, 1).reshape(sheet.n, x.shape[0] * x.shape[2]).contiguous().numpy()


def angles(sheet: Sheet, span: tuple[int, int]) -> tuple[Singles, Singles] | None:
    """Cosines and sines of a run of entries [H or 1, n, width/2], scaled as the model does; None: no turn."""
    if sheet.rope is None:
        return None
    cos, sin = sheet.rope.angles(sheet.positions[:, slice(*span)])
    return (cos * sheet.rope.scaling).numpy(), (sin * sheet.rope.scaling).numpy()


def sources(sheet: Sheet, kind: Kind, x: Singles) -> Whole:
    """For every entry the first entry that says the same, or itself [N]."""
    values = bits(sheet.values).transpose(1, 0, 2)
    if sheet.ids is not None:
        first = repeats.groups(np.atleast_2d(sheet.ids.numpy()).T)
    else:
        first = repeats.groups(values)
    if kind == "values":
        same = (values == values[first]).all((1, 2))
        return np.where(same, first, np.arange(sheet.n))
    if sheet.rope is None:
        return repeats.confirm(first, x, np.zeros_like(x))
    turned = repeats.radii(x, sheet.keys.shape[0], sheet.rope.width, sheet.rope.is_interleaved)
    return repeats.confirm(first, x, turned * np.float32(_REACH[sheet.keys.dtype]))


def bits(x: Tensor) -> npt.NDArray[np.generic]:
    """The words of a tensor's numbers."""
    return x.contiguous().view(torch.int32 if x.dtype is torch.float32 else torch.int16).numpy()
