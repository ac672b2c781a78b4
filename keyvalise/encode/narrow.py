"""Numbers of eight bits with an exponent each: small ones keep their digits beside large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import float8
from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Fp8Encode:
    """Every number in eight bits, four of exponent and three of fraction, over one scale per vector.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, D], "values" likewise,
               "scales_keys", "scales_values" float16 [N, 1]
    Formula    x̂ = s·e4m3(x/s), s = max |x| / 448, at least 2⁻¹⁴
    Units      residual: the most tokens per kv head that stay raw
    Cost       D + Dv + 4 bytes per entry
    Phase      once per entry, when it leaves the raw tail; codes are never encoded again
    Reduces to zeros for a vector of zeros
    Differs    an error is at most a sixteenth of its own number, where an integer's is the same for all of
               its group: better where a few numbers are large
    Paper      none: OCP 8-bit floating point, e4m3
    """

    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "fp8"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"
    group: ClassVar[int] = 1

    def check(self, geometry: Geometry) -> None:
        """Any head fits."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        return float(geometry.key_dim + geometry.value_dim + 4)

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        (k, of_k), (v, of_v) = float8.encode(keys), float8.encode(values)
        return Codes({"keys": k, "values": v, "scales_keys": of_k, "scales_values": of_v}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        entry = codes.entry
        keys = float8.decode(entry["keys"], entry["scales_keys"]).to(dtype)
        return keys, float8.decode(entry["values"], entry["scales_values"]).to(dtype)
