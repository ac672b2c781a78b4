"""How much a step reads, by how even the units' scores are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import units
from keyvalise.types.argument import arg
from keyvalise.types.quantity import Amount, Share
from keyvalise.types.retrieve import Memo


@dataclass(frozen=True, slots=True)
class CutoffReading:
    """A layer whose scores are spread over many units reads more than one that knows what it wants.

    Shapes     logits [B, Hq, U] → int64 [B, A]; remembered: "entropy" float32 [B, A, 2], a mean and how many
               steps it is of
    Formula    e = −Σ_u p_u·log p_u / log U, p = softmax_u(logit), mean over the query heads of a choice; 1
               for a single unit;  ē: mean of e over the last steps, which after `window` of them fade;
               entries read: amount·min(max(2·ē, floor), most)
    Units      amount: entries per choice at ē = 1/2, or a share of those in units;  floor, most: parts of
               it;  window: steps;  sinks, recent, block: tokens
    Cost       U·Hq time; 8 bytes per choice, row and layer; at most most·amount·(D + Dv) numbers per choice
               and step, and sinks + recent + block more
    Needs      a logit of every unit
    Phase      a call with several queries, such as a prompt, reads everything; then every choice
    Scope      one unit at least is read, however little is asked for; units are read whole
    Reduces to read for floor = most = 1; to full attention for 100%; to the entropy of the step for window=1
    Differs    a layer does not know the others: it compares its entropy with 1/2 instead of with theirs, so
               that equal entropies still read equally much, but what all layers read together is only
               bounded, by floor and most, and no sum is held. The clamps are parts of `amount`; in the
               official configuration the least is more than the mean share, and late layers get nothing else.
               There the shares are even until a hundred steps are known; here ē is of those there are
    Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
    """

    amount: Amount = arg(Share(2.0), low=1, doc="entries that a choice reads where the entropy is one half")
    floor: float = arg(0.5, low=0.0, high=1.0, doc="the least that is read, as a part of the amount")
    most: float = arg(2.0, low=1.0, doc="the most that is read, as a multiple of the amount")
    window: int = arg(100, low=1, doc="steps that the mean entropy is of")
    sinks: int = arg(4, low=0, doc="first tokens, always read")
    recent: int = arg(64, low=0, doc="newest tokens, always read")
    block: int = arg(1024, low=1, doc="tokens that enter units together")

    name: ClassVar[str] = "cutoff"
    room: ClassVar[str] = "read"
    needs: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def amounts(
        self, logits: Tensor, sizes: Tensor, amounts: Tensor, memo: Memo
    ) -> tuple[Tensor, dict[str, Tensor]]:
        n_rows, n_choices = amounts.shape
        now = _evenness(logits, sizes).view(n_rows, n_choices, -1).mean(-1)
        before = memo.get("entropy", torch.zeros(n_rows, n_choices, 2, device=now.device))
        mean, steps = before.unbind(-1)
        steps = (steps + 1).clamp(max=self.window)
        mean = mean + (now - mean) / steps
        part = (2 * mean.double()).clamp(self.floor, self.most)
        return (amounts * part).round().long(), {"entropy": torch.stack([mean, steps], -1)}


def _evenness(logits: Tensor, sizes: Tensor) -> Tensor:
    """float32 [B, Hq]: the entropy of every query head's shares, as a part of the largest that so many units
    can have; 1 for less than two.
    """
    is_unit = units.of_heads(sizes, logits.shape[1]) > 0
    shares = torch.where(is_unit, logits, -torch.inf).softmax(-1).masked_fill(~is_unit, 0.0)
    n = is_unit.sum(-1)
    return torch.where(n > 1, torch.special.entr(shares).sum(-1) / n.clamp(min=2).log(), 1.0)
