"""How much every layer errs when it attends to a small set of tokens that its semantic heads voted for.

Formula    at the document's end a layer chooses its last `window` tokens and the best others by
           s_t = mean over its n best heads of the pooled attention of the window's queries, `budget` in
           all;
           e_l = Σ over answer tokens of ‖O_chosen − O_full‖ / (‖O_full‖ + 1e-5), O behind the output
           projection, new tokens appended to both; the model itself goes on with O_full
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.ops import pool
from keyvalise.train import rollouts
from keyvalise.train.attention import Seam, served
from keyvalise.train.rollouts import Problem
from keyvalise.types.errors import UnsupportedModel
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True)
class Votes:
    """budget   tokens of every layer, the window included;  heads: of a layer, that vote
    asked    choose behind the question, whose end is then the window; else behind the document
    """

    budget: int = 32
    window: int = 8
    pool: int = 5
    heads: int = 4
    asked: bool = False


@dataclass
class Measuring:
    """Answers a model's attention as the model would, and notes what a small set of columns would answer.

    ranks     layer → scores [Hq] that say which heads vote;  outputs: layer → [Hq, Dv, E]
    end       columns of the prompt that a layer chooses from; later ones are appended
    chosen    layer → columns that it keeps of them;  errors: float64 [L]
    """

    ranks: Mapping[int, Tensor]
    outputs: Mapping[int, Tensor]
    votes: Votes
    end: int
    errors: Tensor
    chosen: dict[int, Tensor] = field(default_factory=dict)

    def attend(self, seam: Seam) -> Tensor:
        full = seam.native()
        if seam.layer not in self.ranks:
            return full
        if seam.layer not in self.chosen:
            self.chosen[seam.layer] = choose(seam, self.ranks[seam.layer], self.votes, self.end)
            return full
        new = torch.arange(self.end, seam.keys.shape[2], device=full.device)
        columns = torch.cat([self.chosen[seam.layer], new])
        own = seam.columns_of(0, seam.query.shape[2])[:, None]
        part = seam.over(columns, 0, len(own), columns <= own)
        self.errors[seam.layer] += apart(part, full, self.outputs[seam.layer])
        return full


def choose(seam: Seam, ranks: Tensor, votes: Votes, end: int) -> Tensor:
    """The columns [budget] that a layer keeps of the first `end`, ascending; the call holds the prompt."""
    window = min(votes.window, votes.budget, end)
    if end <= votes.budget:
        return torch.arange(end, device=seam.keys.device)
    best = ranks.argsort(descending=True, stable=True)[: votes.heads]
    votes_of = seam.probabilities(end - window, end)[best].sum(1)[None, :, : end - window]
    scores = pool.average(votes_of, torch.ones_like(votes_of, dtype=torch.bool), votes.pool)[0].mean(0)
    kept = scores.topk(votes.budget - window).indices.sort().values
    return torch.cat([kept, torch.arange(end - window, end, device=kept.device)])


def apart(part: Tensor, full: Tensor, output: Tensor) -> float:
    """Relative distance of two attention outputs [1, S, Hq, Dv] behind the projection, summed over S."""
    wide = output.float().flatten(0, 1)
    other, true = (x[0].float().flatten(1) @ wide for x in (part, full))
    return float(((other - true).norm(dim=-1) / (true.norm(dim=-1) + 1e-5)).sum())


def of(model: Any, problem: Problem, ranks: Mapping[int, Tensor], votes: Votes, most: int = 32) -> Tensor:
    """Errors [L] of all layers while the model answers one problem.

    Raises   UnsupportedModel where the output projection of a layer is not recognised
    """
    geometry = Geometry.of(models.text_config(model))
    outputs = {layer: _output(model, layer, geometry) for layer in ranks}
    errors = torch.zeros(len(models.host_layers(model)), dtype=torch.float64)
    end = problem.prompt.shape[1] if votes.asked else problem.document
    measuring = Measuring(ranks, outputs, votes, end, errors)
    with served(model, measuring.attend):
        rollouts.sample(model, problem, most=most, temperature=0.0)
    return errors


def averaged(sums: Sequence[Tensor]) -> Tensor:
    """Sums [L] of several data sets as one profile: each normalised to 1, averaged, normalised again."""
    shares = torch.stack([one / one.sum().clamp(min=1e-300) for one in sums])
    mean = shares.mean(0)
    return mean / mean.sum().clamp(min=1e-300)


def _output(model: Any, layer: int, geometry: Geometry) -> Tensor:
    found = models.weights_of(model, layer, ("o_proj",), geometry).get("o_proj")
    if found is None:
        raise UnsupportedModel(f"layer {layer} of {type(model).__name__} has no known output projection")
    return found
