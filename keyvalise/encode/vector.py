"""Integers whose range is every vector's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import ranged
from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Integers


@dataclass(frozen=True, slots=True)
class VectorEncode:
    """Every key and value on levels between its own smallest and largest number; a second level of codes
    writes what the first left, without parameters of its own.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys.codes" uint8 [N, ⌈D·bits/8⌉],
               "scales.keys" float16 [N, 2] (step Δ, offset ℓ), "keys.second" uint8 [N, ⌈D·second/8⌉] where
               there is a second level; values likewise
    Formula    x̂ = ℓ + Δ·q, q = round((x − ℓ)/Δ), ℓ = min x, Δ = (max x − ℓ)/(2^bits − 1), both rounded to
               float16 before anything is coded with them; second level: + Δ₂·q₂ − Δ/2, Δ₂ = Δ/(2^second − 1).
               |x − x̂| ≤ Δ/2, or Δ₂/2 with a second level, and what float16 rounds off
    Units      bits, second: per number, second=0 for one level; residual: tokens per kv head that stay raw
    Cost       ⌈D·bits/8⌉ + ⌈D·second/8⌉ + 4 bytes per key, likewise per value
    Phase      once per entry, when it leaves the raw tail; codes are never encoded again
    Reduces to an integer code whose group is the head
    Differs    the mean is a transform's business (center); no choice among several means; no padding to 32 B
    Paper      Aguerrebere et al. 2023, arXiv 2304.04759            Confidence  old official source
    """

    bits: int = arg(8, low=1, high=8, doc="bits per number")
    second: int = arg(0, low=0, high=8, doc="bits per number of what is left; 0: one level")
    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "vector"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"
    group: ClassVar[int] = 1

    def check(self, geometry: Geometry) -> None:
        """Any head fits."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        dims = (geometry.key_dim, geometry.value_dim)
        return float(sum(ranged.width(dim, self.bits, self.second) for dim in dims))

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        written = {"keys": keys, "values": values}
        rows = {name: ranged.encode(x, self.bits, self.second) for name, x in written.items()}
        return Codes({_named(name, part): x for name, row in rows.items() for part, x in row.items()}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        shape = env.geometry
        keys, values = (
            ranged.decode(_row(codes, name), self.bits, self.second, dim).to(dtype)
            for name, dim in (("keys", shape.key_dim), ("values", shape.value_dim))
        )
        return keys, values

    def integers(self, env: Env, codes: Codes, group_of: Tensor | None) -> tuple[Integers, Integers] | None:
        if self.second:
            return None
        rows, shape = (_row(codes, "keys"), _row(codes, "values")), env.geometry
        keys, values = (
            Integers(row["codes"], row["scales"][:, None], self.bits, dim)
            for row, dim in zip(rows, (shape.key_dim, shape.value_dim), strict=True)
        )
        return keys, values


def _named(name: str, part: str) -> str:
    return f"scales.{name}" if part == "scales" else f"{name}.{part}"


def _row(codes: Codes, name: str) -> dict[str, Tensor]:
    named = {part: _named(name, part) for part in ("codes", "second", "scales")}
    return {part: codes.entry[word] for part, word in named.items() if word in codes.entry}
