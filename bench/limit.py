"""How many units a summary can tell apart: every pair of n units is what one query wants.

python bench/limit.py [--dims 8 16 32] [--units 8 16 …] [--entries 4] [--seeds 3]  → docs/results/limit.jsonl

Keys and queries are free: they are trained, by what a summary makes of the keys, until every query's two
units rank first or nothing improves. Recall is the share of a query's two units among the two that rank
first: what a summary can do at best (`own`), and what it makes of keys that were trained without it
(`of_keys`), where single keys decide.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from keyvalise.bench.results import write_whole
from keyvalise.recipe import catalogue
from keyvalise.types.data import Entries, Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.retrieve import Cut, Table

LINES = Path(__file__).parents[1] / "docs" / "results" / "limit.jsonl"
SUMMARIES = ("centroid", "box", "ball")
STEPS, PATIENCE = 3000, 200


def trained(name: str, n: int, n_entries: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Keys [n, n_entries, dim] and queries [pairs, dim], unit vectors, for the summary of this name."""
    noise = torch.Generator().manual_seed(seed)
    keys = torch.randn(n, n_entries, dim, generator=noise).requires_grad_()
    pairs = wanted(n)
    queries = torch.randn(len(pairs), dim, generator=noise).requires_grad_()
    course = torch.optim.Adam([keys, queries], lr=0.02)
    least, waited = float("inf"), 0
    for _ in range(STEPS):
        ranking = logits(name, directions(keys), directions(queries))
        loss = torch.nn.functional.cross_entropy(16 * ranking, shares(pairs, n))
        course.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        course.step()
        now = float(loss.detach())
        waited = 0 if now < least - 1e-4 else waited + 1
        least = min(least, now)
        if waited > PATIENCE:
            break
    return directions(keys.detach()), directions(queries.detach())


def logits(name: str, keys: Tensor, queries: Tensor) -> Tensor:
    """[pairs, n]: what a summary, or single keys, think of every unit."""
    if name == "keys":
        return torch.einsum("nmd,pd->pnm", keys, queries).amax(-1)
    n, n_entries, dim = keys.shape
    env = Env(0, Geometry(1, len(queries), 1, dim, dim, torch.float32, 1.0))
    flat, live = keys.reshape(1, 1, -1, dim), torch.ones(1, 1, n * n_entries, dtype=torch.bool)
    length = torch.tensor([[n * n_entries]], dtype=torch.int32)
    ordinals = torch.arange(n * n_entries, dtype=torch.int32).view(1, 1, -1)
    entries = Entries(length, live, ordinals, None, {}, lambda: flat, lambda: flat)
    unit = torch.arange(n * n_entries).view(1, 1, -1) // n_entries
    sizes = torch.full((1, 1, n), n_entries, dtype=torch.int32)
    part = catalogue.part(name)()
    table = Table(sizes, part.build(env, Cut(entries, unit, sizes, {})), lambda home: flat[0, 0])
    ranking: Tensor = part.score(env, table, queries[None])[0]
    return ranking


def wanted(n: int) -> Tensor:
    """int64 [pairs, 2]: all pairs of units."""
    return torch.tensor(list(itertools.combinations(range(n), 2)))


def shares(pairs: Tensor, n: int) -> Tensor:
    """[pairs, n]: half for either of a query's units."""
    return torch.zeros(len(pairs), n).scatter_(1, pairs, 0.5)


def directions(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def recall(ranking: Tensor, pairs: Tensor) -> float:
    """The share of all queries' units that rank first or second."""
    first = ranking.topk(2, -1).indices
    return float((first[:, :, None] == pairs[:, None]).any(1).float().mean())


def recalls(n: int, n_entries: int, dim: int, seed: int) -> dict[str, float]:
    """Every summary's recall, on keys of its own and on keys that were trained by themselves."""
    pairs, plain = wanted(n), trained("keys", n, n_entries, dim, seed)
    found = {"keys": recall(logits("keys", *plain), pairs)}
    for name in SUMMARIES:
        found[f"{name}_of_keys"] = recall(logits(name, *plain), pairs)
        found[f"{name}_own"] = recall(logits(name, *trained(name, n, n_entries, dim, seed)), pairs)
    return found


def main() -> int:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--units", nargs="+", type=int, default=[8, 12, 16, 24, 32, 48, 64])
    parser.add_argument("--entries", type=int, default=4, help="keys of a unit")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for dim, n in track(list(itertools.product(options.dims, options.units)), "sizes"):
        sums: dict[str, float] = {}
        for seed in range(options.seeds):
            for name, value in recalls(n, options.entries, dim, seed).items():
                sums[name] = sums.get(name, 0.0) + value / options.seeds
        told = {"dim": dim, "units": n, "entries": options.entries, "seeds": options.seeds}
        lines.append({**told, **{name: round(value, 4) for name, value in sums.items()}})
    write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
