"""What codes of codewords have in common: keys and values named with books of their own, read from tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from keyvalise.ops import lookup, rope
from keyvalise.ops.spelling import Spelling
from keyvalise.types.code import Asked, Codes, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Codewords

LENGTHS = "scales"
"""Lengths stand among the scales of a ledger."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Books of one layer and how vectors are spelled with them.

    is_turned   keys are named before the rotary embedding: queries meet them turned, one by one
    """

    spelling: Spelling
    keys: Tensor
    values: Tensor
    is_turned: bool

    def write(self, keys: Tensor, values: Tensor, where: Where) -> Codes:
        """Codes of keys [N, D] and values [N, Dv]."""
        entry: dict[str, Tensor] = {}
        for name, x, books in (("keys", keys, self.keys), ("values", values, self.values)):
            written = self.spelling.write(x, where.heads, books)
            entry |= {_word(name, part): tensor for part, tensor in written.items()}
        return Codes(entry, {})

    def read(self, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        """Keys and values again."""
        keys = self.spelling.read(_parts(codes, "keys"), where.heads, self.keys).to(dtype)
        return keys, self.spelling.read(_parts(codes, "values"), where.heads, self.values).to(dtype)

    def attend(self, env: Env, codes: Codes, where: Where, asked: Asked) -> tuple[Tensor, Tensor]:
        """Logits and outputs from tables; keys that a query meets turned are spelled out."""
        written = _parts(codes, "keys")
        if self.is_turned and env.rope is not None and where.positions is not None:
            spelled = self.spelling.read(written, where.heads, self.keys)
            dots = lookup.spelled(rope.apply(spelled, where.positions, env.rope))
        else:
            dots = self.spelling.dots(written, self.keys)
        dim = env.geometry.value_dim
        weighed = self.spelling.weighed(_parts(codes, "values"), self.values, dim)
        return lookup.attend(asked, dots, weighed, dim)

    def named(self, codes: Codes, shape: Geometry) -> tuple[Codewords, Codewords] | None:
        """For those who read names where they lie, where every name is a byte."""
        if not self.spelling.is_bytes:
            return None
        keys, values = (
            Codewords(written["names"], books, dim, written.get("lengths"))
            for written, books, dim in (
                (_parts(codes, "keys"), self.keys, shape.key_dim),
                (_parts(codes, "values"), self.values, shape.value_dim),
            )
        )
        return keys, values


def of(env: Env, asset: str, spelling: Spelling, is_turned: bool) -> Naming:
    """The books of a layer."""
    books = env.fixed[asset]
    return Naming(spelling, books["keys"][env.layer], books["values"][env.layer], is_turned)


def _word(name: str, part: str) -> str:
    return f"{LENGTHS}_{name}" if part == "lengths" else name


def _parts(codes: Codes, name: str) -> Mapping[str, Tensor]:
    words = {part: _word(name, part) for part in ("names", "lengths")}
    return {part: codes.entry[word] for part, word in words.items() if word in codes.entry}
