"""Iterations by which tables of commvq are learned from keys and values, one part after the other.

Axes   L layers, H heads, N vectors, R stages, D and Dv numbers; keys are paired, as `ops.commuting` has them
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import commuting
from keyvalise.train import signed, turning

SOFT, HARD, SIGNED = 10, 20, 12
"""Iterations of a stage at falling temperatures, then at none; of a matrix of values."""

PART = 2**12
"""Vectors that soft iterations look at: each is compared with all codewords, in numbers that are all kept."""

FAINT = 0.1
"""No pair weighs less than this share of the mean one."""

TINY = 1e-30

Head = tuple[int, ...]


@dataclass
class Course:
    """What is learned, in `tensors` that change in place; `begin` tells from what.

    tensors   keys [L, H, R, 64, D] of (key − middle_keys)·scale_keys, gain_keys [L, H] of their sums,
              values_1, values_2 [L, H, Dv·bits, Dv] of values less middle_values; of the stage that is
              trained, table [L, H, 64, D] and the least error [L, H]
    """

    tensors: dict[str, Tensor]
    seed: int = 0
    device: Any = "cpu"
    keys: Tensor | None = None
    values: Tensor | None = None
    rest: Tensor | None = None

    @staticmethod
    def tables(shape: tuple[int, int], stages: int, dim: int, wide: int) -> dict[str, Tensor]:
        """Tensors that nothing has been learned in, for (L, H)."""
        return {
            "keys": torch.zeros(*shape, stages, commuting.LINES, dim),
            "middle_keys": torch.zeros(*shape, dim),
            "scale_keys": torch.ones(*shape, dim),
            "gain_keys": torch.ones(shape),
            "values_1": torch.zeros(*shape, wide, wide),
            "values_2": torch.zeros(*shape, 2 * wide, wide),
            "middle_values": torch.zeros(*shape, wide),
            "table": torch.zeros(*shape, commuting.LINES, dim),
            "least": torch.full(shape, torch.inf),
        }

    @property
    def plan(self) -> list[tuple[str, int, int]]:
        """(part, its number, iteration), in order."""
        found = [("stage", r, i) for r in range(self.tensors["keys"].shape[2]) for i in range(SOFT + HARD)]
        return [*found, ("gain", 0, 0), *(("matrix", b, i) for b in (1, 2) for i in range(SIGNED))]

    def begin(self, keys: Tensor, values: Tensor, loud: Tensor) -> None:
        """Learn from keys [L, H, N, D] and values [L, H, N, Dv]; loud [L, H, D]: of queries, squared."""
        pairs = loud.unflatten(-1, (2, -1)).mean(-2)
        size = (pairs / pairs.mean(-1, keepdim=True).clamp(min=TINY)).sqrt()
        size = torch.where(pairs.sum(-1, keepdim=True) > 0, size.clamp(min=FAINT), 1.0)
        scale, middle = torch.cat([size, size], -1), keys.mean(2)
        self.tensors["scale_keys"].copy_(scale)
        self.tensors["middle_keys"].copy_(middle)
        self.tensors["middle_values"].copy_(values.mean(2))
        self.keys = (keys - middle[:, :, None]) * scale[:, :, None]
        self.values = values - self.tensors["middle_values"][:, :, None]

    def step(self, number: int) -> dict[str, float]:
        """One iteration for all layers and heads; the error before it, as a share."""
        part, place, turn = self.plan[number]
        do = {"stage": self._stage, "gain": self._gain, "matrix": self._matrix}[part]
        if part == "stage" and (turn == 0 or self.rest is None):
            self.rest = self._left(place)
        heads = list(product(*map(range, self.tensors["least"].shape)))
        return {"error": sum(do(place, turn, head) for head in heads) / len(heads)}

    def _left(self, stage: int) -> Tensor:
        """What the stages before leave of the keys."""
        assert self.keys is not None
        rest = self.keys.clone()
        for head in product(*map(range, rest.shape[:2])):
            for table in self.tensors["keys"][head][:stage]:
                rest[head] -= turning.near(rest[head].to(self.device), table.to(self.device)).cpu()
        return rest

    def _stage(self, stage: int, turn: int, head: Head) -> float:
        assert self.rest is not None and self.keys is not None
        rest, least = self.rest[head].to(self.device), self.tensors["least"]
        table, heat = self.tensors["table"][head].to(self.device), 0.0
        if turn == 0:
            table, least[head] = turning.start(rest, commuting.LINES, self.seed + stage), torch.inf
        if turn < SOFT:
            rest = rest[:PART]
            heat = turning.heat(turn, SOFT) * max(float(rest.square().sum(-1).mean().sqrt()), TINY)
        soft = turning.expect(rest, table, heat)
        if turn >= SOFT and soft.error < least[head]:
            self.tensors["keys"][head][stage], least[head] = table.cpu(), soft.error
        self.tensors["table"][head] = soft.best().cpu()
        return soft.error / max(float(self.keys[head].square().sum(-1).mean()), TINY)

    def _gain(self, _place: int, _turn: int, head: Head) -> float:
        assert self.keys is not None
        found = turning.gain(self.keys[head].to(self.device), self.tensors["keys"][head].to(self.device))
        self.tensors["gain_keys"][head] = found
        return abs(found - 1)

    def _matrix(self, bits: int, turn: int, head: Head) -> float:
        assert self.values is not None
        matrices, values = self.tensors[f"values_{bits}"], self.values[head].to(self.device)
        weight = values.square().mean(-1).clamp(min=TINY)
        even = values / weight.sqrt()[:, None]
        before = signed.start(even, matrices.shape[2]) if turn == 0 else matrices[head].to(self.device)
        better, error = signed.improve(before, even, weight)
        matrices[head] = better.cpu()
        return error
