"""What is read where it lies: integers and names of codewords, and the codes that hand them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from keyvalise.types.code import Codes
from keyvalise.types.data import Env
from keyvalise.types.geometry import Rope


@dataclass(frozen=True, slots=True)
class Integers:
    """Rows of whole numbers as they are written: x̂ = offset + step·code.

    codes    uint8 [N, ⌈dim·bits/8⌉], side by side as `ops.pack` lays them
    scales   float16 [M, groups, 2] (step, offset), each for ⌈dim/groups⌉ neighbouring channels
    run      neighbouring entries that share a row of scales;  row_of int32 [N] says which row instead
    """

    codes: Tensor
    scales: Tensor
    bits: int
    dim: int
    run: int = 1
    row_of: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Codewords:
    """Rows of names as they are written: x̂ = length·(c_1 ‖ … ‖ c_m), or length·(c_1 + … + c_m), then turned.

    codes    uint8 [N, m]: a byte names one of 256 codewords
    books    float16 [H, m, 256, dim/m], or [H, m, 256, dim] where codewords are added up: every kv head's own
    lengths  float16 [N, 1];  None: 1
    turn     how far every row is turned, positions int32 [N], by which angles;  None: not at all
    """

    codes: Tensor
    books: Tensor
    dim: int
    lengths: Tensor | None = None
    turn: tuple[Tensor, Rope] | None = None


Written = Integers | Codewords

Sides = tuple[Integers, Integers] | tuple[Codewords, Codewords]
"""Keys and values."""


@runtime_checkable
class Integral(Protocol):
    """A code of integers with steps and offsets, for those who read them where they lie.

    Law      what they stand for equals what `decode` gives in float32
    """

    def integers(self, env: Env, codes: Codes, group_of: Tensor | None) -> tuple[Integers, Integers] | None:
        """Keys, as they are stored, and values of a whole run; None where they are more than that.

        group_of   int32 [N] finds an entry's group;  None: consecutive entries share
        """
        ...


@runtime_checkable
class Lexical(Protocol):
    """A code of names of codewords, for those who read them where they lie.

    Law      as `Integral`; whether keys still want turning, the code's side says
    """

    def named(self, env: Env, codes: Codes) -> tuple[Codewords, Codewords] | None:
        """Keys and values of a whole run; None where a name is not a byte."""
        ...
