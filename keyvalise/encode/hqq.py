"""Integers with an offset that tolerates a few large errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from keyvalise.ops import affine, bitpack, hqq
from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry

DEFAULT_CHANNELS = 64
"""Channels that share parameters unless the recipe says otherwise; a smaller head is one group."""


@dataclass(frozen=True, slots=True)
class HqqEncode:
    """Every token by itself, in groups of channels whose offset is the best of twenty half-quadratic steps.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, ⌈D·bits/8⌉], "values" likewise,
               "scales_keys", "scales_values" float16 [N, groups, 2] (step, offset)
    Formula    x̂ = offset + step·q, q = round((x − offset)/step), step = (max − min)/(2^bits − 1);
               the offset makes mean |x − x̂|^0.7 small, see ops.hqq; never larger than with offset = min
    Units      group: most channels that share; residual: the most tokens per kv head that stay raw
    Cost       per key or value: ⌈D·bits/8⌉ + 4·groups bytes; 20·N·D time once, N·D to read
    Phase      once per entry, when it leaves the raw tail; codes are never encoded again
    Reduces to the integer codes where no step lowers the error; bits=8 is nearly lossless
    Raises     BadArgument for a group larger than the head; the default adapts to the head
    Differs    the offset is written where the original writes the zero, offset = −zero·step. Errors are taken
               in steps, so that scale does not matter; the sharpness grows, every step of twenty is taken,
               each group keeps its own best. An offset that no longer spans all levels is passed over.
               Published for weights
    Paper      Badri and Shaji 2023 (mobiusml.github.io/hqq_blog)            Confidence  official code
    """

    bits: int = arg(4, low=1, high=8, doc="bits per number")
    channels: int = arg(
        DEFAULT_CHANNELS, low=1, doc="most channels that share a step and an offset", word="group"
    )
    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "hqq"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"
    group: ClassVar[int] = 1

    def check(self, geometry: Geometry) -> None:
        smaller = min(geometry.key_dim, geometry.value_dim)
        if self.channels > smaller and self.channels != DEFAULT_CHANNELS:
            raise BadArgument("group", self.channels, f"at most the head size {smaller}")

    def bytes_per_entry(self, geometry: Geometry) -> float:
        dims = (geometry.key_dim, geometry.value_dim)
        return float(
            sum(bitpack.width(dim, self.bits) + 4 * affine.n_groups(dim, self.channels) for dim in dims)
        )

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        (k, of_k), (v, of_v) = (hqq.encode(x, self.bits, self.channels) for x in (keys, values))
        k, v = (bitpack.pack_bits(codes, self.bits) for codes in (k, v))
        return Codes({"keys": k, "values": v, "scales_keys": of_k, "scales_values": of_v}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        entry, shape = codes.entry, env.geometry
        keys = self._read(entry["keys"], entry["scales_keys"], shape.key_dim).to(dtype)
        return keys, self._read(entry["values"], entry["scales_values"], shape.value_dim).to(dtype)

    def _read(self, packed: Tensor, scales: Tensor, dim: int) -> Tensor:
        return hqq.decode(bitpack.unpack_bits(packed, self.bits, dim, torch.uint8), scales)
