"""A vector as a sum of codewords, each nearest to what those before it left."""

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
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Codewords


@dataclass(frozen=True, slots=True)
class RqEncode:
    """Every key and value is written as the numbers of codewords that add up to it, one for each stage.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, W], "values" likewise, with
               norm=true "scales_keys", "scales_values" float16 [N, 1]; books: "keys" [L, H, stages, K, D],
               "values" likewise
    Formula    x̂ = Σ_r c_{r,i_r}, i_r = argmin ‖x − Σ_{s<r} c_{s,i_s} − c_{r,i}‖; a beam hands the best sums
               on instead of one; with norm=true of x/‖x‖, times ‖x‖.  q·k̂ = Σ_r q·c_{r,i_r}, looked up
    Units      stages: codewords of a vector; beam: sums that are handed on; side: of the rotary embedding, on
               which keys are coded; residual: tokens per kv head that stay raw
    Cost       W = ⌈stages·log₂K / 8⌉ bytes per key and per value, 2 more with norm=true; books
               stages·K·(D + Dv)·2 bytes per layer and kv head. Writing beam·stages·K·D time per
               entry; reading stages·D per entry where they lie if K = 256
    Needs      a codebook of this model, made for these arguments; with side=pre static rotary angles
    Phase      once per entry, when it leaves the raw tail
    Reduces to k-means codes with stages=1; greedy stages with beam=1
    Raises     AssetError for a codebook that is missing or was made for something else
    Differs    stages are trained one after another on what the greedy ones left, and are not tuned together
    Paper      Juang and Gray 1982, ICASSP; Babenko and Lempitsky 2014, CVPR
               Confidence  reconstruction
    """

    stages: int = arg(8, low=1, high=64, doc="codewords that add up to a vector")
    codewords: int = arg(256, low=2, high=65536, doc="codewords of a stage")
    beam: int = arg(1, low=1, high=64, doc="sums that the search hands from stage to stage")
    norm: bool = arg(False, doc="whether lengths are written beside")
    of: str = rope_side("pre")
    index: str = arg("packed", choices=("packed", "resbit"), doc="how numbers of codewords are written")
    codebook: str = asset("rq", doc="codewords of every layer and kv head", kind="residual")
    residual: int = arg(32, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "rq"
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
        return {"stages": self.stages, "codewords": self.codewords, "norm": self.norm, "side": self.of}

    @property
    def spelling(self) -> Spelling:
        m, n = self.stages, self.codewords
        return Spelling(m, n, is_sum=True, beam=self.beam, how=self.index, has_length=self.norm)

    def check(self, geometry: Geometry) -> None:
        """Any head fits."""

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
