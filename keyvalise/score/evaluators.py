"""What a few heads of one layer look at, for all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.observe.window import WindowObserver
from keyvalise.ops import mass
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Entries, Env, Scores
from keyvalise.types.part import Observer, View


@dataclass(frozen=True, slots=True)
class EvaluatorsScore:
    """Attention that the last n queries pay in the evaluator heads of the one layer that a profile names.

    Shapes     profile "heads" [L, Hq], zero but in one layer → [B, H, T] per layer, "free"
    Formula    s_t = Σ over that layer's heads with a score above 0 of mean_s softmax_t(q_hs·k_t), asked once
               and given to every layer by ordinals; an entry that this layer no longer holds scores 0
    Cost       the heads' n·T·D time in one layer; every layer remembers its last n queries in the prompt
    Needs      a profile of evaluator heads
    Phase      when a call has ended                        Scope  model: the same tokens for all layers
    Differs    the paper runs the model again on the chosen tokens (`shorten` does); as a recipe the entries
               stay as they were computed, with their context and positions
    Raises     AssetError where the profile is missing or another model's
    Paper      Fei et al. 2025, arXiv 2501.12959            Confidence  reconstruction
    """

    n: int = arg(32, low=1, doc="queries that vote", is_window=True)
    profile: str = asset("evaluators", doc="scores of all heads, zero but in one layer", kind="heads")

    name: ClassVar[str] = "evaluators"
    room: ClassVar[str] = "score"
    scope: ClassVar[Literal["model"]] = "model"
    needs: ClassVar[frozenset[str]] = frozenset({"layers", "queries:piece", "keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"sets:layer", "scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (WindowObserver(self.n),)

    def survey(self, views: Sequence[View], states: Mapping[str, Tensor]) -> list[Scores]:
        env, entries, stats = max(views, key=lambda view: float(self._heads(view[0]).sum()))
        window = WindowObserver(self.n)
        seen = mass.window_mass(env.geometry, stats[window.q_name], stats[window.ordinals_name], entries)
        n_tokens = max(env.seen)
        group = seen.shape[1] // entries.live.shape[1]
        places = _places(entries, n_tokens).repeat_interleave(group, 1)
        votes = seen * (self._heads(env) > 0)[:, None]
        by_ordinal = votes.new_zeros((votes.shape[0], n_tokens + 1))
        by_ordinal.scatter_add_(1, places.flatten(1), votes.flatten(1))
        return [_spread(by_ordinal, view[1], n_tokens) for view in views]

    def _heads(self, env: Env) -> Tensor:
        return env.fixed[self.profile]["heads"][env.layer]


def _places(entries: Entries, n_tokens: int) -> Tensor:
    """Where every entry stands in a list by ordinals; dead slots behind its end."""
    return torch.where(entries.live, entries.ordinals, n_tokens).long()


def _spread(by_ordinal: Tensor, entries: Entries, n_tokens: int) -> Scores:
    wide = by_ordinal[:, None].expand(-1, entries.live.shape[1], -1)
    return Scores(wide.gather(2, _places(entries, n_tokens)).masked_fill(~entries.live, 0.0))
