"""Codebooks of every layer and kv head, for product and residual codes.

Formula    k-means of the pieces of a vector (product), or of what the stages before left (residual); of keys
           and of values apart, on the side of the rotary embedding and behind the transforms of the recipe
Units      a step is one text, of which as many tokens are taken as of any other, then one layer
Differs    the first token of every text is among its tokens: heads rest on it, and its key is like no other
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import codewords, kmeans
from keyvalise.store.asset import Asset
from keyvalise.train import readings
from keyvalise.train.job import Job
from keyvalise.train.readings import Reading
from keyvalise.types.errors import InputError

PER_WORD, MOST_BYTES = 32, 2**30
"""Vectors of a head for every codeword, and what all of them may take together."""

NAMES = ("keys", "values")


@dataclass(frozen=True)
class Sizes:
    """m books of K codewords; `is_sum`: the codewords of a vector are added up."""

    m: int
    n: int
    is_sum: bool
    has_length: bool

    def shape(self, dim: int) -> tuple[int, int, int]:
        """Of one head's books."""
        return self.m, self.n, dim if self.is_sum else dim // self.m


def product(job: Job) -> Asset:
    """Books for the code `pq`."""
    part = job.part
    return _train(job, Sizes(part.parts, part.codewords, False, part.norm))


def residual(job: Job) -> Asset:
    """Books for the code `rq`."""
    part = job.part
    return _train(job, Sizes(part.stages, part.codewords, True, part.norm))


def _train(job: Job, sizes: Sizes) -> Asset:
    shape, n_layers, n_texts = job.reader.geometry, len(job.reader.layers), job.texts.n
    dims = {"keys": shape.key_dim, "values": shape.value_dim}
    per_vector = 4 * n_layers * shape.n_kv_heads * sum(dims.values())
    wanted = min(PER_WORD * sizes.n, MOST_BYTES // per_vector)
    each = -(-wanted // n_texts)
    heads = (n_layers, shape.n_kv_heads)
    seen = {name: torch.zeros(*heads, each * n_texts, dim) for name, dim in dims.items()}
    books = {f"books_{name}": torch.zeros(*heads, *sizes.shape(dim)) for name, dim in dims.items()}
    counts = {"n": torch.zeros((), dtype=torch.long), "errors": torch.zeros(n_layers, 2)}

    def collect(number: int) -> dict[str, float]:
        ids, begin = job.texts.ids(number), int(counts["n"])
        places = readings.drawn(ids.shape[1], each, f"{job.seed} {number}")
        end = begin + len(places)

        def take(layer: int, reading: Reading) -> None:
            for name, x in (("keys", reading.keys), ("values", reading.values)):
                seen[name][layer, :, begin:end] = x[:, places.to(x.device)].cpu()

        job.reader.read(ids, take)
        counts["n"] += len(places)
        return {"error": 0.0}

    def step(number: int) -> dict[str, float]:
        if number < n_texts:
            return collect(number)
        layer = number - n_texts
        for i, name in enumerate(NAMES):
            x = seen[name][layer, :, : int(counts["n"])].to(job.reader.model.device)
            if x.shape[1] < sizes.n:
                raise InputError(
                    f"the texts give {x.shape[1]} vectors for {sizes.n} codewords; ask for more --tokens"
                )
            made, counts["errors"][layer, i] = fit(x, sizes, f"{job.seed} {layer} {name}")
            books[f"books_{name}"][layer] = made
        return {"error": float(counts["errors"][layer].mean())}

    run = job.run(n_texts + n_layers)
    run.go(step, {**seen, **books, **counts})
    made = {name: books[f"books_{name}"].half() for name in NAMES}
    inner = ["stage", "codeword"] if sizes.is_sum else ["piece", "codeword"]
    axes = {name: ["layer", "head", *inner, job.axis(name) if sizes.is_sum else "number"] for name in NAMES}
    errors = {name: [round(float(e), 6) for e in counts["errors"][:, i]] for i, name in enumerate(NAMES)}
    return job.asset(made, axes, {"vectors": int(counts["n"]), "error": errors})


def fit(x: Tensor, sizes: Sizes, seed: str) -> tuple[Tensor, float]:
    """Books [H, m, K, …] for vectors [H, n, D], and what is left of their variance."""
    whole = x
    if sizes.has_length:
        x = codewords.unit(x)[0]
    spread = float((x - x.mean(1, keepdim=True)).square().sum()) or 1.0
    if not sizes.is_sum:
        pieces = x.unflatten(2, (sizes.m, -1)).transpose(1, 2)
        found = [_found(head, sizes.n, f"{seed} {i}") for i, head in enumerate(pieces)]
        left = sum(float(one.error.sum()) for one in found) * x.shape[1]
        return torch.stack([one.centres for one in found]), left / spread
    stages = []
    for stage in range(sizes.m):
        one = _found(x, sizes.n, f"{seed} {stage}")
        stages.append(one.centres)
        own = kmeans.nearest(x, one.centres)
        x = x - one.centres.gather(1, own[..., None].expand(-1, -1, whole.shape[2]))
    return torch.stack(stages, 1), float(x.square().sum()) / spread


def _found(x: Tensor, n: int, seed: str) -> kmeans.Found:
    return kmeans.fit(x, n, seed=readings.number(seed) % 2**31)
