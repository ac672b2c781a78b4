"""Numbers as they are, with fewer digits: for what a transform has made small already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Fp16Encode:
    """Every number in half precision.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" float16 [N, D], "values" likewise
    Formula    x̂ = x rounded to ten binary digits of fraction; beyond ±65504 the nearest that there is
    Units      residual: the most tokens per kv head that stay raw
    Cost       2·(D + Dv) bytes per entry
    Phase      once per entry, when it leaves the raw tail
    Reduces to raw entries of a float16 cache
    Paper      none: IEEE 754
    """

    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "fp16"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"
    group: ClassVar[int] = 1

    def check(self, geometry: Geometry) -> None:
        """Any head fits."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        return float(2 * (geometry.key_dim + geometry.value_dim))

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        limit = torch.finfo(torch.float16).max
        written = {"keys": keys, "values": values}
        return Codes(
            {name: x.clamp(-limit, limit).to(torch.float16, copy=True) for name, x in written.items()}, {}
        )

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        return codes.entry["keys"].to(dtype), codes.entry["values"].to(dtype)
