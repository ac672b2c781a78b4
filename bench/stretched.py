"""Long contexts made of short ones: what the reference model computes within its own length, further apart.

Keys are taken as they are before the rotary embedding, moved within the covariance of their cluster, and
turned to the position that they get; no key occurs twice. Queries are those of questions behind the
documents, turned to the positions behind the long context.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

import keyvalise
from keyvalise.host import model as models
from keyvalise.ops import kmeans, rope
from keyvalise.train.readings import Reader, Reading
from keyvalise.types.geometry import Geometry

SEED, DOCUMENTS, TOKENS = 2_000_000, 6, 3584
"""Documents that no recipe was chosen on, and tokens of each; their questions follow."""

CLUSTERS, MOVED = 64, 0.5
"""Clusters of a head's keys; the share of a key's deviation, as an amplitude, that is drawn anew."""


class Context(NamedTuple):
    """keys [H, n, D], values [H, n, Dv]; queries [Hq, m, D] at the positions behind; float32."""

    keys: Tensor
    values: Tensor
    queries: Tensor


@functools.cache
def readings() -> list[list[tuple[Reading, int]]]:
    """[layer][document] → what it holds and asks, keys and queries as the model turns them, and where the
    questions begin.
    """
    model, tokenizer = keyvalise.reference()
    found: list[list[tuple[Reading, int]]] = [[] for _ in range(model.config.num_hidden_layers)]
    kinds = itertools.cycle(itertools.product(("multikey", "records"), ("sparse", "dense")))
    for i, (name, kind) in zip(range(DOCUMENTS), kinds, strict=False):
        task = keyvalise.tasks.generate(name, tokens=TOKENS, seed=SEED + i, kind=kind)
        document = tokenizer(task.document).input_ids
        asked = tokenizer(" " + " ".join(task.questions), add_special_tokens=False).input_ids
        text = [*document, *asked][: model.config.max_position_embeddings]
        begin = min(len(document), len(text) - 1)
        Reader(model).read(
            torch.tensor([text]), lambda layer, it, begin=begin: found[layer].append((it, begin))
        )
    return found


def context(layer: int, n: int, n_queries: int, *, seed: int = 0) -> Context:
    """n tokens as a layer of the reference model might hold them, and so many queries behind them."""
    model, _ = keyvalise.reference()
    shape = Geometry.of(model.config, torch.float32, model.config.num_hidden_layers)
    turn = models.rope_of(model, shape, layer)
    assert turn is not None
    keys, values, queries = [], [], []
    for reading, begin in readings()[layer]:
        place = torch.arange(reading.keys.shape[1])
        keys.append(rope.unrotate(reading.keys, place, turn)[:, :begin])
        values.append(reading.values[:, :begin])
        queries.append(rope.unrotate(reading.queries, place, turn)[:, begin:])
    short, asked = torch.cat(keys, 1), torch.cat(queries, 1)
    index = torch.arange(n) % short.shape[1]
    made = torch.Generator().manual_seed(seed)
    order = torch.randperm(asked.shape[1], generator=made)[:n_queries]
    places = n + torch.arange(len(order))
    return Context(
        rope.apply(_moved(short, index, made), torch.arange(n), turn),
        torch.cat(values, 1)[:, index],
        rope.apply(asked[:, order], places, turn),
    )


def _moved(x: Tensor, index: Tensor, made: torch.Generator) -> Tensor:
    """x [H, T, D] at these places, each moved within the covariance of its cluster."""
    centres = kmeans.fit(x, CLUSTERS).centres
    own = kmeans.nearest(x, centres)
    rest = x - centres.gather(1, own[..., None].expand_as(x))
    found = torch.empty(len(x), len(index), x.shape[-1])
    for head, cluster in itertools.product(range(len(x)), range(CLUSTERS)):
        is_mine = own[head] == cluster
        mine = is_mine[index]
        if not bool(mine.any()):
            continue
        deviations = rest[head, is_mine]
        # Normal mixtures of deviations have their covariance.
        mixture = torch.randn(int(mine.sum()), len(deviations), generator=made)
        drawn = mixture @ deviations / len(deviations) ** 0.5
        kept = (1 - MOVED**2) ** 0.5
        found[head, mine] = centres[head, cluster] + kept * rest[head, index[mine]] + MOVED * drawn
    return found
