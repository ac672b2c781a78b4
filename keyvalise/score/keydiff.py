"""Unusual keys matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from keyvalise.ops import mass
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class KeydiffScore:
    """How far a key points away from the mean direction of the keys that are held.

    Shapes     → [B, H, T] float32, "free", within −1 … 1
    Formula    a = mean over live t of k_t/‖k_t‖;  s_t = −cos(k_t, a)
    Cost       H·T·D time; two float32 copies of the keys; no state
    Needs      keys
    Phase      prompt and decode; with `every n` it is the paper's block-wise form
    Scope      layer; invariant to the length of every key and to the queries
    Differs    an entry of log-weight log m counts once in the mean, not m times; a key of length zero scores
               0
    Paper      Park et al. 2025, arXiv 2504.15364           Confidence  paper
    """

    name: ClassVar[str] = "keydiff"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        directions = functional.normalize(mass.clean_keys(entries), dim=-1)
        # The sum points where the mean points, and dead slots add zeros to it.
        anchor = functional.normalize(directions.sum(2, keepdim=True), dim=-1)
        return Scores(-(directions * anchor).sum(-1))
