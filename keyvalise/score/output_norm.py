"""Attention counts by the length of the value behind the output projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import heads, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class OutputNormRescore:
    """Scores times the length of what an entry adds to the layer's output, through each query head's matrix.

    Shapes     [B, Hq | H | 1, T] → on the same heads, "free"; product makes Hq to H; base holds the scores
               before, on the axes of the result
    Formula    exact: s'_ht = (s_ht + eps)·‖v_t W_h‖₁, W_h [Dv, E] the rows of the output projection that
               query head h owns
               product: (mean_g s_gt + eps)·mean_g ‖v_t W_g‖₁, which is also what scores of kv heads get; one
               score per layer takes the mean over all its heads
    Cost       Hq·T·Dv·E time, as the projection of the whole prompt; 16 MiB transient
    Needs      values, the weight of the output projection; scores ≥ 0
    Scope      layer; a bias of the projection says nothing about entries
    Reduces to its base where all projected lengths are equal (eps changes no ranking then)
    Differs    exact follows the bound head by head; product is what the reference code computes. eps is added
               to means over the window's queries: below typical attention it counts for nothing, above it
               (very long prompts) the length alone ranks
    Paper      Feng et al. 2025, arXiv 2502.03805           Confidence  official code
    """

    group: Literal["exact", "product"] = arg("exact", choices=("exact", "product"))
    eps: float = arg(1e-4, low=0.0, doc="added to every score before the length counts")

    name: ClassVar[str] = "output_norm"
    room: ClassVar[str] = "rescore"
    needs: ClassVar[frozenset[str]] = frozenset({"values", "weight:o_proj", "scores:positive"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"scores:mass"})

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores:
        votes = heads.reduce(scores, env.geometry) if self.group == "product" else scores
        lengths = weigh.projected_lengths(weigh.clean_values(entries), env.weights["o_proj"])
        return weigh.weighed(votes, weigh.on_heads(lengths, votes.values.shape[1]), entries.live, self.eps)
