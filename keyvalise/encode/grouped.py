"""Integers with a step and an offset per token and group of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import affine, pack
from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Integers

DEFAULT_CHANNELS = 64
"""Channels that share parameters unless the recipe says otherwise; a smaller head is one group."""


@dataclass(frozen=True, slots=True)
class GroupedEncode:
    """Every token is written by itself: its channels fall into groups, each with a step and an offset.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, ⌈D·bits/8⌉], "values" likewise,
               "scales_keys", "scales_values" float16 [N, groups, 2] (step, offset); no group tensors
    Formula    x̂ = offset + step·q, q = round((x − offset)/step), offset = min,
               step = (max − min)/(2^bits − 1), over n = ⌈D/group⌉ groups of ⌈D/n⌉ channels (the last may be
               smaller)
    Units      group: most channels that share; residual: the most tokens per kv head that stay raw
    Cost       per key or value: ⌈D·bits/8⌉ + 4·groups bytes; N·D time each way
    Phase      once per entry, when it leaves the raw tail; codes are never encoded again
    Reduces to the numbers themselves for a constant group (step 0), up to float16
    Raises     BadArgument for a group larger than the head; the default adapts to the head
    Differs    from KIVI: keys share parameters over channels, not over tokens, so every entry leaves alone.
               Parameters are float16: numbers beyond ±65504 are written as ±65504, and a group narrower than
               2⁻¹⁰ of its size is constant. Decoded to float32, encoding again changes nothing.
    Paper      none: round to nearest, minimum to maximum
    """

    channels: int = arg(
        DEFAULT_CHANNELS, low=1, doc="most channels that share a step and an offset", word="group"
    )
    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"
    group: ClassVar[int] = 1
    name: ClassVar[str]
    bits: ClassVar[int]

    def check(self, geometry: Geometry) -> None:
        smaller = min(geometry.key_dim, geometry.value_dim)
        if self.channels > smaller and self.channels != DEFAULT_CHANNELS:
            raise BadArgument("group", self.channels, f"at most the head size {smaller}")

    def bytes_per_entry(self, geometry: Geometry) -> float:
        dims, bits = (geometry.key_dim, geometry.value_dim), self.bits
        return sum(float(pack.width(dim, bits) + 4 * affine.n_groups(dim, self.channels)) for dim in dims)

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        (k, of_k), (v, of_v) = (affine.encode_rows(x, self.bits, self.channels) for x in (keys, values))
        return Codes({"keys": k, "values": v, "scales_keys": of_k, "scales_values": of_v}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        sides = self.integers(env, codes, None)
        keys, values = (affine.decode_rows(x.codes, x.scales, x.bits, x.dim) for x in sides)
        return keys.to(dtype), values.to(dtype)

    def integers(self, env: Env, codes: Codes, group_of: Tensor | None) -> tuple[Integers, Integers]:
        entry, shape = codes.entry, env.geometry
        keys = Integers(entry["keys"], entry["scales_keys"], self.bits, shape.key_dim)
        return keys, Integers(entry["values"], entry["scales_values"], self.bits, shape.value_dim)


@dataclass(frozen=True, slots=True)
class Int8Encode(GroupedEncode):
    """Eight bits per number, 255 steps per group."""

    name: ClassVar[str] = "int8"
    bits: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class Int4Encode(GroupedEncode):
    """Four bits per number, 15 steps per group."""

    name: ClassVar[str] = "int4"
    bits: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Int2Encode(GroupedEncode):
    """Two bits per number, 3 steps per group."""

    name: ClassVar[str] = "int2"
    bits: ClassVar[int] = 2
