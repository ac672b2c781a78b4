"""Windows made alike, then eight numbers at a time from one codebook for all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import lookup, nsn, octets
from keyvalise.ops.octets import Book
from keyvalise.ops.turn import Turn
from keyvalise.types.argument import arg, asset
from keyvalise.types.code import Asked, Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry

BOOKS = {1: "signed", 2: "positive"}
"""Tensor of the asset, by bits."""


@dataclass(frozen=True, slots=True)
class NsnEncode:
    """A window of tokens is scaled, shifted by its mean, scaled and mixed until any window looks like noise;
    noise is written eight numbers at a time.

    Shapes     keys [N, D], values [N, Dv], N = M·group → entry tensors: "keys" uint8 [N, ⌈D/8⌉·bits],
               "scales_keys" float16 [N], both of values likewise, "sizes" uint8 [N], the key's in the lower
               half; group tensors: "of_sizes_keys" float16 [M, 2], "means_keys" uint8 [M, ⌈D/2⌉],
               "of_means_keys" float16 [M, ⌈D/64⌉, 2], all of values likewise
    Formula    x̂ = s₁·(s₂·Hc + o): s₁ = ‖x‖/√D, o = the window's mean of x/s₁, c the vectors nearest to
               H(x/s₁ − o) at unit size, s₂ what errs least with c. Keys: s₁ and o of what stands before the
               rotary embedding R, c of the turned H·R(x/s₁ − o); R·x̂ = s₁·(s₂·Hc + R·o)
    Units      group: tokens of a window; residual: the most tokens per kv head that stay raw
    Cost       bits·⌈D/8⌉ + 2½ bytes per key, 4 + ⌈D/2⌉ + 4·⌈D/64⌉ per window of them, likewise of values;
               N·D·(32 + log D) time to write, N·D to read; one codebook for all layers, fixed bytes
    Phase      once per entry; a whole window leaves the raw tail at a time
    Reduces to raw entries for residual ≥ tokens
    Differs    s₁ and o are rounded before anything is taken of them, so that what remains makes up for it.
               The nearest vector counts, not the smallest angle. The codebooks are trained here, on noise.
               Values are mixed when they are written, not in the model's weights. A head that is no multiple
               of 8 is filled with zeros before it is mixed
    Paper      Son et al. 2025, arXiv 2505.18231            Confidence  reconstruction
    """

    bits: int = arg(2, choices=(1, 2), doc="bits per number")
    group: int = arg(64, low=1, doc="tokens of a window, which share a mean")
    residual: int = arg(64, low=0, doc="most tokens per kv head that stay raw")
    codebook: str = asset("octets", "the vectors of eight numbers", kind="octets")

    name: ClassVar[str] = "nsnquant"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values", "rope:static"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"

    def check(self, geometry: Geometry) -> None:
        """Any head fits: it is filled up to whole pieces."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        pieces = octets.n_pieces(geometry.key_dim) + octets.n_pieces(geometry.value_dim)
        return pieces * self.bits + 5 + self.group_bytes(geometry) / self.group

    def group_bytes(self, geometry: Geometry) -> int:
        return nsn.window_bytes(geometry.key_dim) + nsn.window_bytes(geometry.value_dim)

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        turn, book = Turn(env.rope, where.positions), self._book(env)
        k, v = nsn.write(turn.back(keys), self.group, book, turn), nsn.write(values, self.group, book)
        entry = {"keys": k.codes, "values": v.codes, "scales_keys": k.factor, "scales_values": v.factor}
        sides = ("keys", k), ("values", v)
        group = {f"{part}_{name}": getattr(side, part) for name, side in sides for part in nsn.SHARED}
        return Codes(entry | {"sizes": k.sizes | v.sizes << nsn.BITS}, group)

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        keys, values = self._held(env, codes, where)
        return keys.rows().to(dtype), values.rows().to(dtype)

    def attend(self, env: Env, codes: Codes, where: Where, asked: Asked) -> tuple[Tensor, Tensor]:
        keys, values = self._held(env, codes, where)
        return lookup.attend(asked, keys.dots, values.weighed, env.geometry.value_dim)

    def _book(self, env: Env) -> Book:
        return Book(env.fixed[self.codebook][BOOKS[self.bits]], self.bits)

    def _held(self, env: Env, codes: Codes, where: Where) -> tuple[nsn.Held, nsn.Held]:
        """Keys and values as they are read."""
        entry, shape, owner = codes.entry, env.geometry, where.group_of
        if owner is None:
            owner = nsn.owners(len(entry["keys"]), self.group, entry["keys"].device)

        def held(name: str, sizes: Tensor, dim: int, turn: Turn = nsn.NONE) -> nsn.Held:
            shared = (codes.group[f"{part}_{name}"] for part in nsn.SHARED)
            written = nsn.Written(entry[name], entry[f"scales_{name}"], sizes, *shared)
            return nsn.Held.of(written, owner, dim, self._book(env), turn)

        keys = held("keys", entry["sizes"] & 15, shape.key_dim, Turn(env.rope, where.positions))
        return keys, held("values", entry["sizes"] >> nsn.BITS, shape.value_dim)
