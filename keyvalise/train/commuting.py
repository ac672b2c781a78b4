"""Tables of every layer and kv head for commvq: codewords that turn like keys, signed sums for values.

Formula    keys: stage after stage on what the stages before leave, expectation and maximisation while the
           temperature falls (`train.turning`), the table with the least error is kept.  Values: signs are
           searched and matrices found in turns (`train.signed`), for 1 and for 2 bits
Units      a step is one text, of which as many tokens are taken as of any other, then one iteration of a
           stage or of a matrix in all layers and heads
Differs    no network foretells the bits of values: they are searched, and matrices are trained on what is
           to be rebuilt, not on attention. The temperature is a share of the size of what a stage codes
Paper      Li et al. 2025, arXiv 2506.18879            Confidence  official code
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.ops import commuting, signs
from keyvalise.store.asset import Asset
from keyvalise.train import readings, signed, turning
from keyvalise.train.job import Job
from keyvalise.train.readings import Reading
from keyvalise.types.geometry import Geometry

ROUNDS = 30
"""Iterations of every stage and matrix."""

VECTORS, MOST_BYTES = 2**13, 2**30
"""Tokens whose vectors are trained on, and what all of them may take together."""

APART = 8
"""One vector of so many is only measured on."""

TINY = 1e-30

AXES = {
    "keys": ["layer", "head", "stage", "line", "key_dim"],
    "values_1": ["layer", "head", "bit", "value_dim"],
    "values_2": ["layer", "head", "bit", "value_dim"],
    "middle": ["layer", "head", "value_dim"],
}


@dataclass
class Course:
    """What is learned from keys [L, H, N, D], paired, and values [L, H, N, Dv]; `tensors` change in place.

    tensors   keys [L, H, R, 64, D], values_1, values_2 [L, H, Dv·bits, Dv], middle [L, H, Dv], and of the
              stage that is trained: table [L, H, 64, D], least [L, H] error so far
    """

    keys: Tensor
    values: Tensor
    tensors: dict[str, Tensor]
    n: int = ROUNDS
    seed: int = 0
    device: Any = "cpu"
    rest: Tensor | None = None

    @staticmethod
    def tables(shape: tuple[int, int], stages: int, dim: int, wide: int) -> dict[str, Tensor]:
        """Tensors that nothing has been learned in, for (L, H)."""
        return {
            "keys": torch.zeros(*shape, stages, commuting.LINES, dim),
            "values_1": torch.zeros(*shape, wide, wide),
            "values_2": torch.zeros(*shape, 2 * wide, wide),
            "middle": torch.zeros(*shape, wide),
            "table": torch.zeros(*shape, commuting.LINES, dim),
            "least": torch.full(shape, torch.inf),
        }

    @property
    def n_steps(self) -> int:
        """Iterations of the stages of keys and of the two matrices of values."""
        return (self.tensors["keys"].shape[2] + 2) * self.n

    def step(self, number: int) -> dict[str, float]:
        """One iteration for all layers and heads; the error before it, as a share."""
        (part, turn), stages = divmod(number, self.n), self.tensors["keys"].shape[2]
        heads = list(product(*map(range, self.keys.shape[:2])))
        if part >= stages:
            found = [self._matrix(part - stages + 1, turn, head) for head in heads]
            return {"error": sum(found) / len(found)}
        if turn == 0 or self.rest is None:
            self.rest = self._left(part)
        found = [self._table(part, turn, head, self.rest[head].to(self.device)) for head in heads]
        return {"error": sum(found) / len(found)}

    def _left(self, stage: int) -> Tensor:
        """What the stages before leave of the keys."""
        rest = self.keys.clone()
        for head in product(*map(range, rest.shape[:2])):
            for table in self.tensors["keys"][head][:stage]:
                rest[head] -= turning.near(rest[head].to(self.device), table.to(self.device)).cpu()
        return rest

    def _table(self, stage: int, turn: int, head: tuple[int, ...], rest: Tensor) -> float:
        least = self.tensors["least"]
        if turn == 0:
            table, least[head] = turning.start(rest, commuting.LINES, self.seed + stage), torch.inf
        else:
            table = self.tensors["table"][head].to(self.device)
        size = max(float(rest.square().sum(-1).mean().sqrt()), TINY)
        soft = turning.expect(rest, table, size * turning.heat(turn, self.n))
        if soft.error < least[head]:
            self.tensors["keys"][head][stage], least[head] = table.cpu(), soft.error
        self.tensors["table"][head] = soft.best().cpu()
        return soft.error / max(float(self.keys[head].square().sum(-1).mean()), TINY)

    def _matrix(self, bits: int, turn: int, head: tuple[int, ...]) -> float:
        matrices, middle = self.tensors[f"values_{bits}"], self.tensors["middle"]
        middle[head] = self.values[head].mean(0)
        values = (self.values[head] - middle[head]).to(self.device)
        weight = values.square().mean(-1).clamp(min=TINY)
        even = values / weight.sqrt()[:, None]
        before = signed.start(even, matrices.shape[2]) if turn == 0 else matrices[head].to(self.device)
        better, error = signed.improve(before, even, weight)
        matrices[head] = better.cpu()
        return error


def train(job: Job) -> Asset:
    """Tables for the code `commvq`."""
    shape, n_texts = job.reader.geometry, job.texts.n
    heads = (len(job.reader.layers), shape.n_kv_heads)
    per_vector = 4 * heads[0] * heads[1] * (shape.key_dim + shape.value_dim)
    each = -(-min(VECTORS, MOST_BYTES // per_vector) // n_texts)
    seen = {
        "seen_keys": torch.zeros(*heads, each * n_texts, shape.key_dim),
        "seen_values": torch.zeros(*heads, each * n_texts, shape.value_dim),
        "count": torch.zeros((), dtype=torch.long),
    }
    tables = Course.tables(heads, job.part.stages(shape), shape.key_dim, shape.value_dim)
    course: Course | None = None

    def step(number: int) -> dict[str, float]:
        nonlocal course
        if number < n_texts:
            return _collect(job, number, each, seen)
        if course is None:
            keys, values = _split(seen, is_apart=False)
            course = Course(keys, values, tables, ROUNDS, job.seed, job.reader.model.device)
        return course.step(number - n_texts)

    n_parts = tables["keys"].shape[2] + 2
    job.run(n_texts + n_parts * ROUNDS).go(step, {**seen, **tables})
    made = {name: tables[name].half() for name in AXES}
    names = {"key_dim": job.axis("keys"), "value_dim": job.axis("values")}
    axes = {name: [names.get(word, word) for word in words] for name, words in AXES.items()}
    facts = {"vectors": int(seen["count"]), "error": errors(made, *_split(seen, is_apart=True))}
    return job.asset(made, axes, facts)


def _collect(job: Job, number: int, each: int, seen: dict[str, Tensor]) -> dict[str, float]:
    """Keys and values of a text, behind those of the texts before."""
    model, ids, begin = job.reader.model, job.texts.ids(number), int(seen["count"])
    places = readings.drawn(ids.shape[1], each, f"{job.seed} {number}")
    rows = slice(begin, begin + len(places))
    whole = Geometry.of(models.text_config(model))

    def take(layer: int, reading: Reading) -> None:
        turn, mine = models.rope_of(model, whole, job.reader.layers[layer]), places.to(reading.keys.device)
        seen["seen_keys"][layer, :, rows] = commuting.paired(reading.keys[:, mine], turn).cpu()
        seen["seen_values"][layer, :, rows] = reading.values[:, mine].cpu()

    job.reader.read(ids, take)
    seen["count"] += len(places)
    return {"error": 0.0}


def _split(seen: Mapping[str, Tensor], *, is_apart: bool) -> tuple[Tensor, Tensor]:
    """Keys and values [L, H, N, …] that are trained on, or those that are only measured on."""
    mine = (torch.arange(int(seen["count"])) % APART == APART - 1) == is_apart
    return seen["seen_keys"][:, :, : len(mine)][:, :, mine], seen["seen_values"][:, :, : len(mine)][
        :, :, mine
    ]


def errors(made: Mapping[str, Tensor], keys: Tensor, values: Tensor) -> dict[str, list[float]]:
    """Squared error as a share, by layer: of keys in all stages, of values in 1 and 2 bits."""
    heads = torch.arange(keys.shape[1]).repeat_interleave(keys.shape[2])
    found: dict[str, list[float]] = {"keys": [], "values_1": [], "values_2": []}
    for layer in range(len(keys)):
        k, v = keys[layer].flatten(0, 1), values[layer].flatten(0, 1)
        words = commuting.Words(made["keys"][layer], None)
        again = {"keys": (k, words.read(words.write(k, heads), heads))}
        for name in ("values_1", "values_2"):
            sums = signs.Sums(made[name][layer], made["middle"][layer])
            again[name] = v, sums.read(*sums.write(v, heads), heads)
        for name, (x, near) in again.items():
            left = float((x - near).square().sum() / x.square().sum().clamp(min=TINY))
            found[name].append(round(left, 6))
    return found
