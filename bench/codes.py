"""What every code costs in real bits and loses in accuracy and attention, on whole documents, paired.

    python bench/codes.py [--questions 90] [--shard 0/2]     accuracy, resumable; then the errors of attention
    python bench/codes.py --gather                           docs/results/codes.jsonl, for `make docs`

Nothing is dropped and nothing stays raw but what does not fill a group, so that bits are those of the code;
apart from them stand tokens that lose, dropped or kept in few bits.
Assets must have been made before: `keyvalise calibrate reference RECIPE` says how.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import wide

import keyvalise
from keyvalise.bench import plan
from keyvalise.bench.measure import Bench
from keyvalise.bench.results import Result, Results, write_whole
from keyvalise.host import assets
from keyvalise.recipe import words
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.turned import Turned, parts_of
from keyvalise.types.errors import KeyvaliseError

LINES = wide.ROOT / "docs" / "results" / "codes.jsonl"
OUT = wide.ROOT / "results" / "codes"
TOKENS, QUESTIONS, ERROR_DOCUMENTS = 2048, 90, 12
"""Of the documents; per task and kind; documents of each kind on which attention is compared."""

RECIPES = (
    "int8",
    "int4",
    "center > hadamard > int4",
    "int2",
    "center > int2",
    "center > hadamard > int2",
    "hqq",
    "hqq(3)",
    "hqq(2)",
    "kivi(4)",
    "kivi(2)",
    "kivi(2, group=64)",
    "kivi(2, group=128)",
    "lvq",
    "center > vector(4)",
    "center > vector(3)",
    "nsnquant",
    "nsnquant(1)",
    "commvq",
    "commvq(1)",
    "aquakv",
    "aquakv(3, first=3, predictors=aquakv_3)",
    "pq",
    "pq(8, codebook=pq_8)",
    "rq",
    "rq(10, codebook=rq_10)",
    "rq(12, codebook=rq_12)",
    "leanvec",
    "lowrank",
    "svd > int8",
    "svd(75%, values=75%) > int4",
    "fp8",
)
"""Codes and settings, the catalogue's and what is composed of its parts; assets of other names than a part's
own are made by `keyvalise calibrate … --out`, as in `keyvalise calibrate reference 'pq(8)' --out pq_8`.
"""

LOSERS = ("h2o @ 25%", "mikv @ 25%")
"""The same score at the same bytes: losers are dropped, or kept in two bits."""


def bare(text: str) -> str:
    """The recipe with no raw residual."""
    recipe = Recipe.parse(text)
    assert recipe.code is not None and not recipe.stages, f"{text} is no code alone"
    *turns, code = parts_of(recipe.code)
    code = words.changed(code, "residual", 0)
    return str(replace(recipe, code=Turned(tuple(turns), code) if turns else code))


def known() -> list[str]:
    """Those for which the reference model has all assets."""
    model, found = keyvalise.reference()[0], []
    for text in RECIPES:
        try:
            keyvalise.KVCache(model, bare(text))
            found.append(bare(text))
        except KeyvaliseError as error:
            print(f"left out: {text}: {error}", file=sys.stderr)
    return found


def errors(texts: list[str], out: Path) -> None:
    """Attention-output errors along the full cache's answers."""
    model, tokenizer = keyvalise.reference()
    settings = plan.Settings("reference", torch.float16)
    some = wide.documents(wide.TASKS, wide.KINDS, TOKENS, 1, plan.FIRST_SEED, 4)[: 2 * ERROR_DOCUMENTS]
    made = plan.Plan(tuple(some), (plan.FULL, *texts), settings)
    results = Results(out / "errors.jsonl")
    for result in Bench(model, tokenizer, settings).run(made, set(results.known)):
        results.add(result)


@functools.cache
def fixed_bytes(text: str) -> int:
    """Of the files of all assets that a recipe names."""
    model, named = keyvalise.reference()[0], Recipe.parse(text).assets
    return sum(assets.find(name, model, kind).stat().st_size for name, kind in named)


def gather(out: Path) -> None:
    """One line per recipe and kind: bits held, a bit for every question beside the full cache's, errors."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for path in sorted(out.glob("*-of-*.jsonl")):
        for result in Results(path).known.values():
            place = (result.recipe, str(result.document["kind"]))
            found.setdefault(place, {})[json.dumps(result.document)] = result
    gaps: dict[tuple[str, str], list[float]] = {}
    for result in Results(out / "errors.jsonl").known.values():
        if result.error is not None:
            gaps.setdefault((result.recipe, str(result.document["kind"])), []).append(result.error)
    lines = []
    for (recipe, kind), results in sorted(found.items()):
        full = found[plan.FULL, kind]
        common = sorted(set(results) & set(full))
        held = [results[one] for one in common if not results[one].refused]
        gap = gaps.get((recipe, kind), [])
        lines.append(
            {
                "recipe": recipe,
                "kind": kind,
                "tokens": TOKENS,
                "bits": round(16 * sum(r.share for r in held) / max(len(held), 1), 4),
                "right": "".join(str(int(right)) for r in held for right in r.right),
                "full": "".join(str(int(right)) for one in common for right in full[one].right),
                "error": round(sum(gap) / len(gap), 5) if gap else None,
                "fixed_bytes": fixed_bytes(recipe),
            }
        )
    write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines))


def main() -> int:
    """Run one shard, or gather."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="per task and kind")
    parser.add_argument("--shard", default="0/1", help="which of how many, such as 0/2")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--gather", action="store_true")
    options = parser.parse_args()
    if options.gather:
        gather(options.out)
        return 0
    torch.set_num_threads(1)
    number, count = map(int, options.shard.split("/"))
    asked = wide.documents(wide.TASKS, wide.KINDS, TOKENS, options.questions, plan.FIRST_SEED, 24)
    texts = known()
    mine = list(itertools.islice(asked, number, None, count))
    wide.run(mine, [plan.FULL, *texts, *LOSERS], options.out / f"{number}-of-{count}.jsonl", "codes")
    if number == 0:
        errors(texts, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
