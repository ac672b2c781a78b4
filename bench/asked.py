"""What is kept of the answers: of the tokens that answer a question, how many every system keeps.

    python bench/asked.py [--recipes …] [--budget 25%] [--documents 6]     then docs/results/asked.jsonl

Accuracy says that a system is worse than random sampling; this says why: it ranks what is asked below the
rest. Each recipe reads the document alone, then the document together with one question. Shares are means
over kv heads of all layers, and over those of the layer whose heads retrieve (`keyvalise profile`); `make
docs` makes a table in docs/systems.md of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import wide
from rich.progress import track
from torch import Tensor

import keyvalise
from keyvalise.bench import plan, prefill
from keyvalise.bench.measure import Bench
from keyvalise.bench.once import Memo
from keyvalise.bench.results import write_whole
from keyvalise.host import answer, assets
from keyvalise.host.cache import KVCache
from keyvalise.store import asset

LINES = wide.ROOT / "docs" / "results" / "asked.jsonl"
TASKS = ("needle", "records")
QUESTIONS = 2
"""Asked of one document, each with a reading of its own where it is seen."""


Found = tuple[str, bool, tuple[float, float, float]]


def places(document: Tensor, words: Sequence[int]) -> list[int]:
    """Where these tokens first stand side by side in a document [1, N]; nothing where they do not."""
    ids, n = document[0].tolist(), len(words)
    found = next((i for i in range(len(ids) - n + 1) if ids[i : i + n] == list(words)), None)
    return [] if found is None else list(range(found, found + n))


def shares(cache: KVCache, asked: Sequence[int], layer: int) -> tuple[float, float, float]:
    """Kept of all tokens; of the asked ones, over all heads; and over those of one layer."""
    heads = {i: cache.kept_positions(i)[0] for i in cache.shared.layers}
    every = [set(head) for own in heads.values() for head in own]
    mine = [set(head) for head in heads[layer]]
    total = sum(len(head) for head in every) / (len(every) * cache.seen)
    of_all, of_mine = (
        sum(len(head.intersection(asked)) for head in some) / (len(some) * len(asked))
        for some in (every, mine)
    )
    return total, of_all, of_mine


def read(bench: Bench, texts: Sequence[str], context: Tensor) -> dict[str, KVCache]:
    """Every recipe's cache behind one reading."""
    caches, _ = bench.caches(texts, context.shape[1])
    with Memo() as memo:
        for cache in caches.values():
            cache.shared.lend = memo.lend
        prefill.read_all(bench.model, context, list(caches.values()))
    return {text: cache for text, cache in caches.items() if text in texts}


def measured(bench: Bench, document: plan.Document, texts: Sequence[str], layer: int) -> Iterator[Found]:
    """(recipe, whether the question was seen, shares) of every recipe and question of a document."""
    task = document.generate()
    laid = answer.prompt(bench.model, bench.tokenizer, task.document)
    blind = read(bench, texts, laid.document)
    for question, given in zip(task.questions[:QUESTIONS], task.answers, strict=False):
        asked = places(laid.document, bench.expected(given)[:-1])
        if not asked:
            continue
        *most, _ = laid.question(question)
        seeing = read(bench, texts, torch.cat([laid.document, torch.tensor([most])], 1))
        for is_seen, caches in enumerate((blind, seeing)):
            for text, cache in caches.items():
                yield text, bool(is_seen), shares(cache, asked, layer)


def main() -> int:
    """Measure, and write one line per recipe and sight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=wide.systems())
    parser.add_argument("--budget", default="25%")
    parser.add_argument("--documents", type=int, default=6, help="per task and kind")
    parser.add_argument("--out", type=Path, default=LINES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = keyvalise.reference()
    heads = asset.read(assets.find("retrieval", model)).tensors["heads"]
    layer = int(heads.float().mean(1).argmax())
    bench = Bench(model, tokenizer, plan.Settings("reference", torch.float16, fit_windows=True, quick=True))
    texts = [text for text in plan.texts(options.recipes, [options.budget]) if text != plan.FULL]
    seeds = range(plan.FIRST_SEED, plan.FIRST_SEED + options.documents)
    found: dict[tuple[str, bool], list[tuple[float, float, float]]] = {}
    for document in track(plan.documents(TASKS, wide.KINDS, [1024], seeds, 8), "reading"):
        for text, is_seen, numbers in measured(bench, document, texts, layer):
            found.setdefault((text, is_seen), []).append(numbers)
    lines = []
    for (text, is_seen), numbers in found.items():
        total, of_all, of_mine = (
            round(sum(column) / len(column), 4) for column in zip(*numbers, strict=True)
        )
        line = {"recipe": text, "seen": is_seen, "n": len(numbers), "layer": layer}
        lines.append({**line, "tokens": total, "asked": of_all, "retrieved": of_mine})
    write_whole(options.out, "".join(json.dumps(line) + "\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
