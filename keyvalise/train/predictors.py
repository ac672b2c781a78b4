"""What foretells a layer's keys and values from those of the layer below, as they are read again.

Formula    layer by layer, keys before values: ridge regression of what is held on what is read, over all
           tokens of all texts; ridge = 10⁻³ of the mean diagonal of XᵀX. What a layer reads is quantized
           already, by the part that the predictors are for
Units      a step is one text for one of the 2·L regressions
Paper      Shutova et al. 2025, arXiv 2501.19392         Confidence  official code
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.store.asset import Asset, read
from keyvalise.train.job import Job
from keyvalise.train.readings import Reading
from keyvalise.types.data import Env

RIDGE = 1e-3
SIDES = ("keys", "values")


@dataclass(frozen=True)
class Chain:
    """The model read through the predictors found so far, in float64 beside the part's own numbers."""

    job: Job
    made: dict[str, Tensor]
    points: dict[str, Tensor]

    def env(self, layer: int) -> Env:
        part, held = self.job.part, {name: tensor.float() for name, tensor in self.made.items()}
        fixed = {part.predictors: held, part.grids: self.points}
        return Env(layer, self.job.reader.geometry, fixed=fixed)

    def sample(self, number: int, layer: int, side: str) -> tuple[Tensor, Tensor]:
        """(what is given [N, I + 1], what is to be foretold [N, F]) of a text for one regression."""
        held: dict[int, Reading] = {}
        self.job.reader.read(self.job.texts.ids(number), held.__setitem__)
        part, below = self.job.part, None
        for index in range(layer + 1):
            env, one = self.env(index), held[index]
            keys, values = one.keys.transpose(0, 1), one.values.transpose(0, 1)
            if index == layer:
                break
            below = part.read(env, part.write(env, keys, values, below), below)
        zeros = (torch.zeros_like(keys), torch.zeros_like(values))
        low_keys, low_values = zeros if below is None else below
        if side == "keys":
            return _widened(low_keys.flatten(1)), keys.flatten(1).double()
        codes = part.write(self.env(layer), keys, values, below)
        own = part.read(self.env(layer), codes, below)[0]
        return _widened(torch.cat([own.flatten(1), low_values.flatten(1)], 1)), values.flatten(1).double()


def predictors(job: Job) -> Asset:
    """Predictors for the code `aquakv`."""
    shape, n_layers = job.reader.geometry, len(job.reader.layers)
    wide = shape.n_kv_heads * shape.key_dim, shape.n_kv_heads * shape.value_dim
    inputs = (wide[0] + 1, wide[0] + wide[1] + 1)
    made = {
        side: torch.zeros(n_layers, out, given, dtype=torch.float64)
        for side, out, given in zip(SIDES, wide, inputs, strict=True)
    }
    most = max(inputs)
    sums = {
        "xx": torch.zeros(most, most, dtype=torch.float64),
        "xy": torch.zeros(most, max(wide), dtype=torch.float64),
        "yy": torch.zeros(2, dtype=torch.float64),
        "left": torch.zeros(2, n_layers, dtype=torch.float64),
    }
    points = dict(read(assets.find(job.part.grids, job.reader.model)).tensors)
    chain = Chain(job, made, points)

    def step(number: int) -> dict[str, float]:
        number, text = divmod(number, job.texts.n)
        layer, which = divmod(number, 2)
        x, y = chain.sample(text, layer, SIDES[which])
        n_in, n_out = x.shape[1], y.shape[1]
        sums["xx"][:n_in, :n_in] += x.T @ x
        sums["xy"][:n_in, :n_out] += x.T @ y
        sums["yy"] += torch.stack([y.square().sum(), y.new_tensor(len(y))])
        if text < job.texts.n - 1:
            return {}
        xx, xy = sums["xx"][:n_in, :n_in], sums["xy"][:n_in, :n_out]
        weight = _ridge(xx, xy)
        made[SIDES[which]][layer] = weight.T
        rest = sums["yy"][0] - 2 * (weight * xy).sum() + (weight * (xx @ weight)).sum()
        mean = xy[-1].square().sum() / sums["yy"][1]
        share = float(rest / (sums["yy"][0] - mean).clamp(min=1e-30))
        sums["left"][which, layer] = share
        for name in ("xx", "xy", "yy"):
            sums[name].zero_()
        return {"left": share}

    job.run(2 * n_layers * job.texts.n).go(step, {**made, **sums})
    return _asset(job, made, sums["left"])


def _asset(job: Job, made: dict[str, Tensor], left: Tensor) -> Asset:
    axes = {side: ["layer", "output", "input"] for side in SIDES}
    facts: dict[str, Any] = {
        "left": {side: [round(float(x), 4) for x in left[i]] for i, side in enumerate(SIDES)},
        "bits_saved": round(-float(left[:, 1:].clamp(min=1e-9).log2().mean()) / 2, 3)
        if left.shape[1] > 1 and math.isfinite(float(left.sum()))
        else 0.0,
    }
    return job.asset({side: tensor.half() for side, tensor in made.items()}, axes, facts)


def _ridge(xx: Tensor, xy: Tensor) -> Tensor:
    """Weights [I, F]; columns that were never anything get none."""
    strength = RIDGE * xx.diagonal().mean()
    damped = xx + (strength + 1e-12) * torch.eye(len(xx), dtype=xx.dtype)
    solved: Tensor = torch.linalg.solve(damped, xy)
    return solved


def _widened(x: Tensor) -> Tensor:
    """A column of ones behind, float64."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1).double()
