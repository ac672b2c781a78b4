"""Do gates know their heads? Gated recipes against twins whose gates were dealt out anew, at equal bytes.

    python bench/gates.py      then docs/results/gates.jsonl; `make docs` makes docs/gates.md of it

Twins of a recipe: its gates shuffled over all heads of all layers, five times; and uniform, the same recipe
with equal counts for all heads. Asked are needle tasks alone: these need the heads that look far back.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import wide

import keyvalise
from keyvalise.bench import plan
from keyvalise.bench.results import Results, write_whole
from keyvalise.host import assets
from keyvalise.store import asset
from keyvalise.store.asset import Asset

LINES = wide.ROOT / "docs" / "results" / "gates.jsonl"
OUT = wide.ROOT / "results" / "gates"
GATED = ("duo", "rlkv", "rlkv_surrogate", "razor", "headkv")
"""Recipes whose profile has a score per head; the profile bears the name in PROFILES, or the recipe's."""

PROFILES = {"headkv": "retrieval"}
BUDGETS = ("25%", "50%")
TASKS = ("needle", "multikey", "multiquery")
N_TWINS, QUESTIONS = 5, 50


def twins(name: str, folder: Path) -> list[Path]:
    """Files of the same gates, dealt out anew."""
    model, _ = keyvalise.reference()
    shipped = asset.read(assets.find(PROFILES.get(name, name), model))
    gates = shipped.tensors["heads"]
    paths = []
    for seed in range(N_TWINS):
        order = torch.randperm(gates.numel(), generator=torch.Generator().manual_seed(seed))
        made = Asset(shipped.kind, {"heads": gates.flatten()[order].view_as(gates)}, dict(shipped.header))
        paths.append(folder / f"{name}-{seed}.safetensors")
        asset.write(paths[-1], made)
    return paths


class Group(NamedTuple):
    """A gated recipe, the same with equal counts, and with gates dealt out anew."""

    own: str
    uniform: str
    twins: list[str]


def recipes(folder: Path) -> dict[str, Group]:
    """Every gated recipe and what it is compared with."""
    return {
        name: Group(name, f"{name} > uniform", [f"{name}(profile='{path}')" for path in twins(name, folder)])
        for name in GATED
    }


def lines(path: Path, groups: dict[str, Group]) -> list[dict[str, object]]:
    """One line per gated recipe and budget: right answers of itself, uniform, its twins; and the gates."""
    model, _ = keyvalise.reference()
    rights: dict[str, list[bool]] = {}
    for result in Results(path).known.values():
        rights.setdefault(result.recipe, []).extend(result.right)
    found = []
    for name, group in groups.items():
        gates = asset.read(assets.find(PROFILES.get(name, name), model)).tensors["heads"].tolist()
        for budget in BUDGETS:
            own, uniform = (rights[f"{text} @ {budget}"] for text in (group.own, group.uniform))
            others = [rights[f"{text} @ {budget}"] for text in group.twins]
            found.append({
                "recipe": name,
                "budget": budget,
                "gates": gates,
                "right": bits(own),
                "twins": [bits(other) for other in others],
                "uniform": bits(uniform),
            })  # fmt: skip
    return found


def bits(right: list[bool]) -> str:
    return "".join(str(int(one)) for one in right)


def main() -> int:
    """Measure what is missing, then write the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="per task and kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    groups, path = recipes(options.out), options.out / "results.jsonl"
    documents = wide.documents(TASKS, wide.KINDS, 1024, options.questions)
    texts = [text for group in groups.values() for text in (group.own, group.uniform, *group.twins)]
    wide.run(documents, plan.texts(texts, BUDGETS), path, "gates and twins")
    write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines(path, groups)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
