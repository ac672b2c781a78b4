"""How much the model's own head sees of its prediction in every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Scores
from keyvalise.types.part import Observer, View


@dataclass(frozen=True, slots=True)
class NormLogitScore:
    """The length of a token's embedding times the logit of the final prediction in its last state.

    Shapes     states "hidden:embed", "hidden:final" [B, C, E], weight "unembed" [V, E] → [B, H, T] per layer,
               "free"
    Formula    y = argmax W·h_last;  s_t = ‖e_t‖·map(W_y·h_t);  map: raw; softplus; rank (its place among
               the logits of the row, from 0 to 1)
    Cost       T·E time; the prompt's embeddings and last states until the stage acts
    Phase      when a call has ended: the last states are not known before
    Scope      model: one score per token for all layers and heads
    Differs    an attribution method; as a score of entries it is our application. Softplus is the default,
               because a negative logit would make a long embedding the least important one.
    Paper      Abbasi et al. 2024, arXiv 2411.16252         Confidence  official code, as an attribution
    """

    map: Literal["raw", "softplus", "rank"] = arg("softplus", choices=("raw", "softplus", "rank"))

    name: ClassVar[str] = "norm_logit"
    room: ClassVar[str] = "score"
    scope: ClassVar[Literal["model"]] = "model"
    needs: ClassVar[frozenset[str]] = frozenset({"layers", "hidden:embed", "hidden:final", "weight:unembed"})
    gives: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def survey(self, views: Sequence[View], states: Mapping[str, Tensor]) -> list[Scores]:
        env = views[0][0]
        final, embedded = states["hidden:final"].float(), states["hidden:embed"].float()
        unembed = env.weights["unembed"]
        target = unembed[(final[:, -1].to(unembed.dtype) @ unembed.t()).argmax(-1)].float()
        logits = torch.einsum("bce,be->bc", final, target)
        if self.map == "softplus":
            logits = functional.softplus(logits)
        elif self.map == "rank":
            logits = logits.argsort(-1).argsort(-1) / max(logits.shape[1] - 1, 1)
        per_column = embedded.norm(dim=-1) * logits
        return [_at(per_column, env, entries) for env, entries, _ in views]


def _at(per_column: Tensor, env: Env, entries: Entries) -> Scores:
    """Scores of the last C columns [B, C] at the entries of a layer [B, H, T]."""
    seen = torch.tensor(env.prompt, device=per_column.device)[:, None, None]
    n_columns = per_column.shape[1]
    column = (n_columns - seen + entries.ordinals).clamp(0, n_columns - 1).long()
    wide = per_column[:, None].expand(-1, column.shape[1], -1)
    return Scores(wide.gather(2, column).masked_fill(~entries.live, 0.0))
