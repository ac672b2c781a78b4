"""Pieces of a vector, each named by the codeword nearest to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.encode import naming
from keyvalise.encode.naming import Naming
from keyvalise.ops.spelling import Spelling
from keyvalise.types.argument import arg, asset, rope_side
from keyvalise.types.code import Asked, Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Codewords


@dataclass(frozen=True, slots=True)
class PqEncode:
    """Keys and values fall into pieces, and every piece is written as the number of its nearest codeword.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, W], "values" likewise, with
               norm=true "scales_keys", "scales_values" float16 [N, 1]
               books: "keys" [L, H, parts, K, D/parts], "values" likewise
    Formula    x̂ = c_{1,i₁} ‖ … ‖ c_{m,i_m}, i_j = argmin ‖x_j − c_{j,i}‖; with norm=true of x/‖x‖, times
               ‖x‖. q·k̂ = Σ_j table_j[i_j], table_j[c] = q_j·c;  Σ p·v̂ = ‖_j Σ_c (mass of p on c)·c
    Units      parts: pieces, each D/parts numbers; side: of the rotary embedding, on which keys are coded;
               index=resbit: every pattern of bits is a codeword; residual: tokens per kv head that stay raw
    Cost       W = ⌈parts·log₂K / 8⌉ bytes per key and per value (words of digits where K is no power of two),
               2 more with norm=true; books K·(D + Dv)·2 bytes per layer and kv head. Writing K·D time per
               entry; reading D per entry where they lie if K = 256, else parts additions per entry and query
    Needs      a codebook of this model, made for these arguments; with side=pre static rotary angles
    Phase      once per entry, when it leaves the raw tail
    Reduces to the vectors themselves where there are no more different pieces than codewords
    Raises     BadArgument where parts do not divide the head; AssetError for a codebook that is missing or
               was made for something else
    Differs    no rotation is learned first: put hadamard before it
    Paper      Jegou et al. 2011, IEEE TPAMI 33(1)            Confidence  reconstruction
    """

    parts: int = arg(16, low=1, doc="pieces of a key or value")
    codewords: int = arg(256, low=2, high=65536, doc="codewords for each of them")
    norm: bool = arg(False, doc="whether lengths are written beside")
    of: str = rope_side("pre")
    index: str = arg("packed", choices=("packed", "resbit"), doc="how numbers of codewords are written")
    codebook: str = asset("pq", doc="codewords of every layer and kv head", kind="product")
    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "pq"
    room: ClassVar[str] = "encode"
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    group: ClassVar[int] = 1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"keys", "values"} | ({"rope:static"} if self.of == "pre" else set()))

    @property
    def side(self) -> Side:
        return "pre" if self.of == "pre" else "post"

    @property
    def asked_for(self) -> Mapping[str, int | float | bool | str]:
        return {"parts": self.parts, "codewords": self.codewords, "norm": self.norm, "side": self.of}

    @property
    def spelling(self) -> Spelling:
        return Spelling(self.parts, self.codewords, how=self.index, has_length=self.norm)

    def check(self, geometry: Geometry) -> None:
        for dim in (geometry.key_dim, geometry.value_dim):
            if dim % self.parts:
                raise BadArgument("parts", self.parts, f"a divisor of the head size {dim}")

    def bytes_per_entry(self, geometry: Geometry) -> float:
        return float(2 * self.spelling.width())

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        return self._naming(env).write(keys, values, where)

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        return self._naming(env).read(codes, where, dtype)

    def attend(self, env: Env, codes: Codes, where: Where, asked: Asked) -> tuple[Tensor, Tensor]:
        return self._naming(env).attend(env, codes, where, asked)

    def named(self, env: Env, codes: Codes) -> tuple[Codewords, Codewords] | None:
        return self._naming(env).named(codes, env.geometry)

    def _naming(self, env: Env) -> Naming:
        return naming.of(env, self.codebook, self.spelling, self.of == "pre")
