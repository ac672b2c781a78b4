"""Tables of every layer and kv head for commvq: codewords that turn like keys, signed sums for values.

Formula    keys, less their mean, times what queries weigh their pairs by: stage after stage on what the
           stages before leave, expectation and maximisation (`train.turning`) while the temperature falls,
           then at none.  Values, less their mean: signs are searched and matrices found in turns
           (`train.signed`), for 1 and for 2 bits
Units      a step is one text, of which as many tokens are taken as of any other, or one iteration of a stage
           or of a matrix in all layers and heads
Differs    pairs weigh as much as queries are loud there, which commutes just as well. Nothing foretells the
           bits of values: they are searched, and matrices are trained on what is to be rebuilt, not on
           attention. The temperature is a share of the size of what a stage codes, and ends at none
Paper      Li et al. 2025, arXiv 2506.18879            Confidence  official code
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.ops import commuting
from keyvalise.ops.sums import Sums
from keyvalise.ops.words import Words
from keyvalise.store.asset import Asset
from keyvalise.train import readings
from keyvalise.train.course import TINY, Course
from keyvalise.train.job import Job
from keyvalise.train.readings import Reading
from keyvalise.types.geometry import Geometry

VECTORS, MOST_BYTES = 2**14, 2**30
"""Tokens whose vectors are trained on, and what all of them may take together."""

APART = 8
"""One vector of so many is only measured on."""

AXES = {
    "keys": ["layer", "head", "stage", "line", "key_dim"],
    "middle_keys": ["layer", "head", "key_dim"],
    "scale_keys": ["layer", "head", "key_dim"],
    "gain_keys": ["layer", "head"],
    "values_1": ["layer", "head", "bit", "value_dim"],
    "values_2": ["layer", "head", "bit", "value_dim"],
    "middle_values": ["layer", "head", "value_dim"],
}


def train(job: Job) -> Asset:
    """Tables for the code `commvq`."""
    shape, n_texts = job.reader.geometry, job.texts.n
    heads = (len(job.reader.layers), shape.n_kv_heads)
    per_vector = 4 * heads[0] * heads[1] * (shape.key_dim + shape.value_dim)
    each = -(-min(VECTORS, MOST_BYTES // per_vector) // n_texts)
    seen = {
        "seen_keys": torch.zeros(*heads, each * n_texts, shape.key_dim),
        "seen_values": torch.zeros(*heads, each * n_texts, shape.value_dim),
        "loud": torch.zeros(*heads, shape.key_dim),
        "count": torch.zeros((), dtype=torch.long),
    }
    tables = Course.tables(heads, job.part.stages(shape), shape.key_dim, shape.value_dim)
    course = Course(tables, seed=job.seed, device=job.reader.model.device)

    def step(number: int) -> dict[str, float]:
        if number < n_texts:
            return _collect(job, number, each, seen)
        if course.keys is None:
            course.begin(*_split(seen, is_apart=False), seen["loud"])
        return course.step(number - n_texts)

    job.run(n_texts + len(course.plan)).go(step, {**seen, **tables})
    made = {name: tables[name].half() for name in AXES}
    names = {"key_dim": job.axis("keys"), "value_dim": job.axis("values")}
    axes = {name: [names.get(word, word) for word in words] for name, words in AXES.items()}
    facts = {"vectors": int(seen["count"]), "error": errors(made, *_split(seen, is_apart=True))}
    return job.asset(made, axes, facts)


def _collect(job: Job, number: int, each: int, seen: dict[str, Tensor]) -> dict[str, float]:
    """Keys and values of a text, behind those of the texts before, and how loud queries are there."""
    model, ids, begin = job.reader.model, job.texts.ids(number), int(seen["count"])
    places = readings.drawn(ids.shape[1], each, f"{job.seed} {number}")
    rows = slice(begin, begin + len(places))
    whole, n_heads = Geometry.of(models.text_config(model)), seen["loud"].shape[1]

    def take(layer: int, reading: Reading) -> None:
        turn, mine = models.rope_of(model, whole, job.reader.layers[layer]), places.to(reading.keys.device)
        seen["seen_keys"][layer, :, rows] = commuting.paired(reading.keys[:, mine], turn).cpu()
        seen["seen_values"][layer, :, rows] = reading.values[:, mine].cpu()
        if reading.queries.shape[2] == reading.keys.shape[2]:
            asked = commuting.paired(reading.queries, turn).unflatten(0, (n_heads, -1))
            seen["loud"][layer] += asked.square().mean(1).sum(1).cpu()

    job.reader.read(ids, take)
    seen["count"] += len(places)
    return {"error": 0.0}


def _split(seen: Mapping[str, Tensor], *, is_apart: bool) -> tuple[Tensor, Tensor]:
    """Keys and values [L, H, N, …] that are trained on, or those that are only measured on."""
    mine = (torch.arange(int(seen["count"])) % APART == APART - 1) == is_apart
    keys, values = (seen[name][:, :, : len(mine)][:, :, mine] for name in ("seen_keys", "seen_values"))
    return keys, values


def errors(made: Mapping[str, Tensor], keys: Tensor, values: Tensor) -> dict[str, list[float]]:
    """Squared error as a share of what varies, by layer: of keys in all stages, of values in 1 and 2 bits."""
    heads = torch.arange(keys.shape[1]).repeat_interleave(keys.shape[2])
    found: dict[str, list[float]] = {"keys": [], "values_1": [], "values_2": []}
    for layer in range(len(keys)):
        k, v = keys[layer].flatten(0, 1), values[layer].flatten(0, 1)
        words = Words.first(made["keys"].shape[2], made, layer, None)
        again = {"keys": (k, words.read(words.write(k, heads), heads), made["middle_keys"])}
        for name in ("values_1", "values_2"):
            sums = Sums(made[name][layer], made["middle_values"][layer])
            again[name] = v, sums.read(*sums.write(v, heads), heads), made["middle_values"]
        for name, (x, near, middle) in again.items():
            whole = (x - middle[layer].float()[heads]).square().sum().clamp(min=TINY)
            found[name].append(round(float((x - near).square().sum() / whole), 6))
    return found
