"""Small keys matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import mass
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer

STEPS = 2**18
"""Of a length's mantissa: coarse enough to swallow what float32 rounds off, fine enough to rank by."""


@dataclass(frozen=True, slots=True)
class NormScore:
    """The negative length of the key: keys of small norm draw much attention in many models.

    Shapes     → [B, H, T] float32, "free"
    Formula    s_t = −‖k_t‖₂
    Cost       H·T·D time; one float32 copy of the keys; no state
    Needs      keys
    Phase      prompt and decode                            Scope  layer; invariant to rotation and to the
               queries
    Differs    the reference leaves the first two layers whole; write `on 2..` for that. Lengths count to 2⁻¹⁸
               of themselves: equal tokens have keys of equal length in the lowest layer, and which of them
               stays (the latest) shall not hang on how a processor rounds
    Paper      Devoto et al. 2024, arXiv 2406.11430         Confidence  official code
    """

    name: ClassVar[str] = "knorm"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        mantissa, exponent = torch.frexp(mass.clean_keys(entries).norm(dim=-1))
        return Scores(-torch.ldexp((mantissa * STEPS).round() / STEPS, exponent))
