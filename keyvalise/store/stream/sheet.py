"""What one layer of one row holds, as plain tensors: the unit that the bitstream writes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.types.errors import InputError
from keyvalise.types.geometry import Rope

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Sheet:
    """The entries of one layer of one row.

    Shapes   keys [H, N, D], values [H, N, Dv] of one dtype (float32, bfloat16, float16);  ordinals int32 [N]
             or [H, N], ascending;  ids int32 like ordinals: the token behind every entry, or None
    rope     how the keys were turned at position ordinal + offset, or None: they are coded as they are
    """

    keys: Tensor
    values: Tensor
    ordinals: Tensor
    ids: Tensor | None = None
    rope: Rope | None = None
    offset: int = 0

    @property
    def n(self) -> int:
        """Entries per head."""
        return self.keys.shape[1]

    @property
    def positions(self) -> Tensor:
        """RoPE positions [H or 1, N]."""
        ordinals = self.ordinals if self.ordinals.ndim == 2 else self.ordinals[None]
        return ordinals + self.offset

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values as they are."""
        return int(self.keys.numel() + self.values.numel()) * self.keys.element_size()

    def cpu(self) -> Sheet:
        """The same as plain numbers in main memory."""
        ids = None if self.ids is None else self.ids.detach().cpu()
        rope = None if self.rope is None else replace(self.rope, frequencies=self.rope.frequencies.cpu())
        keys, values, ordinals = (x.detach().cpu() for x in (self.keys, self.values, self.ordinals))
        return replace(self, keys=keys, values=values, ordinals=ordinals, ids=ids, rope=rope)

    def check(self) -> Sheet:
        """The sheet itself, if a stream can hold it.

        Raises   InputError for shapes or dtypes that do not fit one another
        """
        keys, values = self.keys, self.values
        if keys.dtype is not values.dtype or keys.dtype not in DTYPES.values():
            raise InputError(
                f"keys and values must both be {', '.join(DTYPES)}; got {keys.dtype}, {values.dtype}"
            )
        if keys.ndim != 3 or values.ndim != 3 or keys.shape[:2] != values.shape[:2]:
            raise InputError(
                f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must be [H, N, D], [H, N, Dv]"
            )
        if 0 in (*keys.shape[::2], values.shape[2]):
            raise InputError(
                f"keys {tuple(keys.shape)} and values {tuple(values.shape)} need heads and channels"
            )
        allowed = (self.n,), tuple(keys.shape[:2])
        for name, numbers in (("ordinals", self.ordinals), ("ids", self.ids)):
            if numbers is not None and tuple(numbers.shape) not in allowed:
                raise InputError(
                    f"{name} have the shape {tuple(numbers.shape)}; with keys {tuple(keys.shape)} "
                    f"they must have {allowed[0]} or {allowed[1]}"
                )
        if self.rope is not None and self.rope.width > keys.shape[2]:
            raise InputError(f"rope turns {self.rope.width} channels, and keys have {keys.shape[2]}")
        return self
