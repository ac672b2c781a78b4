"""Accumulated attention of a noisy softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.gumbel import GumbelObserver, Noise
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class GumbelScore:
    """Attention an entry would have received from a softmax that noise and temperature keep from certainty.

    Shapes     → [B, H, T] float32, "free", ≥ 0
    Formula    s_t = Σ_s mean_g softmax_t((x_gst + noise)/tau_s), x the logits, noise standard Gumbel;
               tau_s = tau_init + tau_delta·(tokens decoded since the prompt)
               noise: sample adds one draw per logit, expected takes the mean over four, none adds nothing
    Cost       H·T time here; GumbelObserver pays Hq·S·T·D per piece, a hash per draw and logit, and 4 bytes
               per entry and kv head
    Needs      queries, keys; GumbelObserver
    Phase      prompt and decode; the attention of the model itself is not touched
    Scope      layer; not invariant to a permutation of the heads, unless noise is none
    Reduces to mass for noise=none, tau_init=1, tau_delta=0; to the number of queries that saw an entry as
               tau_init grows
    Differs    noise and softmax are per query head, then the mean over the group; the original knows no
               groups. The temperature counts tokens, not calls of the model; each row scores by itself
    Paper      Adnan et al. 2024, arXiv 2403.09054          Confidence  official code
    """

    noise: Noise = arg("sample", choices=("sample", "expected", "none"))
    tau_init: float = arg(1.0, low=0.001, doc="temperature over the prompt")
    tau_delta: float = arg(0.01, low=0.0, doc="added for every token decoded")

    name: ClassVar[str] = "gumbel"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (self._observer,)

    @property
    def _observer(self) -> GumbelObserver:
        return GumbelObserver(self.noise, self.tau_init, self.tau_delta)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return Scores(entries.column(self._observer.column).masked_fill(~entries.live, 0.0))
