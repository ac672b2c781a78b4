"""Losers hand their values to the keepers behind them, by lot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.ops import hashing, merging, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount


@dataclass(frozen=True, slots=True)
class CamAct:
    """Every loser may add its value, in equal shares, to those of the next m keepers.

    Shapes     values [B, H, T, Dv] of keepers in the stored dtype; add_logw float32 [B, H, T] with
               weight=mass; keys stay
    Formula    J the next m keepers behind loser i, fewer at the end; p_i = min(s_i / mean_J s, 1), s the
               scores; with probability p_i every v_j, j ∈ J, becomes v_j + v_i/|J|
               weight=mass: v_j becomes (v_j + Σ v_i/|J_i|)/(1 + Σ 1/|J_i|), with log(1 + Σ 1/|J_i|) on its
               log-weight, sums over the losers that were drawn
    Units      m: kept entries;  sinks, recent: tokens per kv head, or a share of the count
    Cost       T·Dv time; float64 temporaries of H·K·Dv for K keepers; 4 bytes of log-weight per entry and kv
               head with weight=mass
    Phase      meant for decoding, one loser at a time: many losers at once add up in the same few values
    Scope      per kv head; draws are hashed from the loser's ordinal, so that a run can be repeated
    Reduces to drop where nobody is drawn. With weight=mass, for the query whose attention is s and p_i < 1,
               the expected numerator and denominator of the softmax are those of before; without, the
               denominator lacks the losers
    Differs    s is the score that chose, accumulated attention in the recipe; codes of the authors use that,
               or the newest query's alone, with the mean or the maximum over J, and share by m where J is
               shorter. Scores are cut off below at 10⁻⁶ of the head's largest, and are 1 where none is
               positive. Entries of score −inf are dropped; keepers in code keep their values
    Paper      Zhang et al. 2024, PMLR 235                  Confidence  official code
    """

    m: int = arg(32, low=1, doc="keepers that share a loser's value")
    weight: Literal["none", "mass"] = arg(
        "none", choices=("none", "mass"), doc="whether keepers weigh more for what they take"
    )
    sinks: Amount = arg(0, low=0, doc="first tokens that always stay", is_window=True)
    recent: Amount = arg(0, low=0, doc="last tokens that always stay", is_window=True)

    name: ClassVar[str] = "cam"
    room: ClassVar[str] = "act"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    takes: ClassVar[frozenset[str]] = frozenset()
    changes_keepers: ClassVar[bool] = True

    @property
    def gives(self) -> frozenset[str]:
        return frozenset() if self.weight == "none" else frozenset({"logw"})

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]:
        keep = choice.keep & entries.live
        is_loser = entries.live & ~keep & ~torch.isneginf(scores.values)
        keepers, losers = merging.Places.of(keep), merging.Places.of(is_loser)
        first, n_keepers = losers.take(keep.cumsum(-1)), keepers.slots.shape[-1]
        last = torch.minimum(first + self.m, keepers.is_real.sum(-1, keepdim=True))
        masses = merging.masses(scores, entries.live).double()
        before = functional.pad((keepers.take(masses) * keepers.is_real).cumsum(-1), (1, 0))
        width = (last - first).clamp(min=1)
        mean = (before.gather(-1, last) - before.gather(-1, first)) / width
        draws = losers.take(hashing.per_entry(env, "cam", entries))
        is_drawn = losers.is_real & (last > first) & (draws * mean < losers.take(masses))
        # A column of ones beside the values counts the shares.
        given = functional.pad(losers.take(weigh.clean_values(entries)).double(), (0, 1), value=1.0)
        given = given * (is_drawn / width)[..., None]
        gain = merging.spread(given, first, last, n_keepers)
        has_taken = merging.spread(is_drawn[..., None].long(), first, last, n_keepers) > 0
        return self._written(entries, choice, keepers, torch.where(has_taken, gain, 0.0)), own

    def _written(self, entries: Entries, choice: Choice, keepers: merging.Places, gain: Tensor) -> Choice:
        """The choice with `gain` [B, H, K, Dv + 1] on the keepers' values and weights."""
        old, extra = entries.values(), gain[..., -1:]
        summed = keepers.take(old).double() + gain[..., :-1]
        new = summed if self.weight == "none" else summed / (1 + extra)
        place = keepers.slots[..., None].expand_as(new)
        choice = replace(choice, values=old.scatter(2, place, new.to(old.dtype)))
        if self.weight == "none":
            return choice
        add = torch.zeros(choice.keep.shape, device=old.device)
        add = add.scatter(2, keepers.slots, extra[..., 0].log1p().float())
        return replace(choice, add_logw=add if choice.add_logw is None else choice.add_logw + add)

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        return 0
