"""Keys as sums of codewords that turn as keys do, values as signed sums; both trained for a model's heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import bitpack, lookup, pack
from keyvalise.ops.sums import Sums
from keyvalise.ops.turn import Turn
from keyvalise.ops.words import Words
from keyvalise.types.argument import arg, asset
from keyvalise.types.code import Asked, Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry

WORD = 12
"""Bits of a stage: two of 64 rows."""


@dataclass(frozen=True, slots=True)
class CommvqEncode:
    """Every key is a sum of codewords, every value of signed vectors, from tables of its layer and head.

    Shapes     keys [N, D], values [N, Dv] → entry tensors: "keys" uint8 [N, ⌈12·R/8⌉], "values" uint8
               [N, ⌈Dv·bits/8⌉], "scales_values" float16 [N]; no group tensors. R = ⌊D·bits/12⌋
    Formula    k̂ = Σ_r (c[r, A_r] + i·c[r, B_r]) before the rotary embedding, pairs of channels as complex
               numbers; v̂ = μ + f·Σ_k s_k·e_k, s_k = ±1, f what errs least
    Units      residual: the most tokens per kv head that stay raw
    Cost       ⌈12·R/8⌉ + ⌈Dv·bits/8⌉ + 2 bytes per entry; N·(4096·R + 8·bits·Dv²) time to write,
               N·(R·D + bits·Dv) to read; the asset's tables are fixed bytes
    Needs      an asset with "keys" [layer, head, R, 64, D], real parts of the pairs, then imaginary ones;
               "values_1", "values_2" [layer, head, Dv·bits, Dv]; "middle" [layer, head, Dv]
    Phase      once per entry, when it leaves the raw tail
    Reduces to raw entries for residual ≥ tokens
    Raises     BadArgument for keys of an odd size, which have no pairs; AssetError for too few stages
    Differs    keys are coded as they are, not over the length of all heads' keys together: heads may hold
               different tokens. Values are coded head by head; their bits are searched, not foretold by a
               network, and are signs around a mean; a factor that errs least takes the place of the length.
               Codewords are summed and turned once for all queries, not looked up for each
    Paper      Li et al. 2025, arXiv 2506.18879            Confidence  official code
    """

    bits: int = arg(2, choices=(1, 2), doc="bits per number")
    residual: int = arg(128, low=0, doc="most tokens per kv head that stay raw")
    codebook: str = asset("commvq", "the tables that were trained for the model", kind="commuting")

    name: ClassVar[str] = "commvq"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values", "rope:static"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "pre"
    group: ClassVar[int] = 1
    asked_for: ClassVar[Mapping[str, int | float | bool | str]] = {}

    def stages(self, geometry: Geometry) -> int:
        """Codewords that a key is the sum of."""
        return max(1, geometry.key_dim * self.bits // WORD)

    def check(self, geometry: Geometry) -> None:
        if geometry.key_dim % 2:
            raise BadArgument("head size", geometry.key_dim, "even, as keys are coded in pairs of channels")

    def bytes_per_entry(self, geometry: Geometry) -> float:
        return (
            bitpack.width(self.stages(geometry), WORD) + pack.width(geometry.value_dim * self.bits, 1) + 2.0
        )

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        v, factor = self._values(env).write(values, where.heads)
        k = self._keys(env).write(keys, where.heads)
        return Codes({"keys": k, "values": v, "scales_values": factor}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        keys, values, factor = (codes.entry[name] for name in ("keys", "values", "scales_values"))
        v = self._values(env).read(values, factor, where.heads).to(dtype)
        return self._keys(env).read(keys, where.heads).to(dtype), v

    def attend(self, env: Env, codes: Codes, where: Where, asked: Asked) -> tuple[Tensor, Tensor]:
        k, v, entry, turn = self._keys(env), self._values(env), codes.entry, Turn(env.rope, where.positions)

        def dots(q: Tensor, _: int, rows: slice) -> Tensor:
            return k.dots(q, entry["keys"][rows], where.heads[rows], turn.rows(rows))

        def weighed(weights: Tensor, head: int, rows: slice) -> Tensor:
            return v.weighed(weights, entry["values"][rows], entry["scales_values"][rows], head)

        return lookup.attend(asked, dots, weighed, env.geometry.value_dim)

    def _keys(self, env: Env) -> Words:
        return Words.first(self.stages(env.geometry), env.fixed[self.codebook], env.layer, env.rope)

    def _values(self, env: Env) -> Sums:
        own = {name: held[env.layer] for name, held in env.fixed[self.codebook].items()}
        return Sums(own[f"values_{self.bits}"], own["middle_values"])
