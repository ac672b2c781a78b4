"""How many questions are answered from what a press keeps, and from what our form of it keeps, equally many.

    python bench/kvpress_answers.py [--questions 50] [--gather]     then docs/results/kvpress.jsonl

The same model file, documents, questions, counts and windows; raw entries against raw entries, in fp32. A
share is of the tokens of every head, so presses that only mask stand here at their nominal share, though they
hold everything. Both sides judge alike: an answer is right if each of its tokens is the likeliest behind
those before. Documents go to the environment of kvpress some at a time; an interrupted run goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kvpress_agreement
import torch
import wide
from rich.progress import track

import keyvalise
from keyvalise.bench import plan
from keyvalise.bench.measure import Bench
from keyvalise.bench.results import write_whole
from keyvalise.host import answer
from keyvalise.recipe import windows
from keyvalise.reference import MODEL_FOLDER
from keyvalise.types.quantity import Budget

LINES = wide.ROOT / "docs" / "results" / "kvpress.jsonl"
OUT = wide.ROOT / "results" / "kvpress"
RATIOS = (0.98, 0.95, 0.9, 0.75, 0.5)
TOGETHER = 12

RECIPES = {
    "streaming": "streaming(sinks=4)",
    "observed": "observed",
    "snapkv": "snapkv(window={window}, pool=5)",
    "tova": "tova",
    "knorm": "knorm",
    "keydiff": "keydiff",
    "random": "random",
    "expected": "expected",
    "pyramidkv": "pyramidkv(window={window}, pool=5)",
    "criticalkv": "criticalkv(window={window}, pool=5)",
    "adakv": "snapkv(window={window}, pool=5) > adaptive",
    "criticalkv, adaptive": "criticalkv(window={window}, pool=5) > adaptive",
}
"""Press → our form of it."""

Case = tuple[str, float]


class Document:
    """A document with its questions, and what is asked of both sides at every ratio."""

    def __init__(self, document: plan.Document, bench: Bench):
        self.document, self.bench = document, bench
        task = document.generate()
        laid = answer.prompt(bench.model, bench.tokenizer, task.document)
        self.ids = laid.document[0].tolist()
        self.exams = [
            [laid.question(question), list(bench.expected(text))]
            for question, text in zip(task.questions, task.answers, strict=True)
        ]

    def count(self, ratio: float) -> int:
        """Tokens that a press keeps, in its own arithmetic."""
        return int(len(self.ids) * (1 - ratio))

    def window(self, ratio: float) -> int:
        return min(32, windows.most(Budget(self.count(ratio), "tok"), len(self.ids)))

    def asks(self) -> list[tuple[str, float, int]]:
        return [(press, ratio, self.window(ratio)) for press in RECIPES for ratio in RATIOS]

    def ours(self) -> dict[Case, Sequence[bool]]:
        """What our forms answer."""
        texts = {
            (press, ratio): f"{text.format(window=self.window(ratio))} @ {self.count(ratio)}tok"
            for press, text in RECIPES.items()
            for ratio in RATIOS
        }
        made = plan.Plan((self.document,), tuple(dict.fromkeys(texts.values())), self.bench.settings)
        right = {result.recipe: result.right for result in self.bench.run(made, set())}
        return {case: right[text] for case, text in texts.items()}


def measure(documents: Sequence[Document], path: Path) -> None:
    """One line per document and case, both sides."""
    known = (
        {json.loads(line)["document"] for line in path.read_text().splitlines()} if path.exists() else set()
    )
    open_ = [one for one in documents if str(one.document) not in known]
    for begin in track(range(0, len(open_), TOGETHER), "documents"):
        batch = open_[begin : begin + TOGETHER]
        theirs = kvpress_agreement.asked({
            "model": str(MODEL_FOLDER),
            "documents": [one.ids for one in batch],
            "exams": [one.exams for one in batch],
            "asks": [one.asks() for one in batch],
        })  # fmt: skip
        lines = []
        for i, one in enumerate(batch):
            ours = one.ours()
            for line in (line for line in theirs if line["document"] == i):
                right = {"theirs": line["right"], "ours": ours[line["press"], line["ratio"]]}
                place = {"document": str(one.document), "press": line["press"], "ratio": line["ratio"]}
                lines.append(json.dumps({**place, **{k: list(v) for k, v in right.items()}}) + "\n")
        with path.open("a") as file:
            file.write("".join(lines))


def gather(path: Path) -> None:
    """One line per press, ratio, kind and task, documents in the order of their seeds."""
    groups: dict[tuple[str, str, str, float], dict[str, list[bool]]] = {}
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for line in sorted(found, key=lambda line: int(line["document"].rpartition("#")[2])):
        task, kind, *_ = line["document"].split()
        place = (kind, task, line["press"], line["ratio"])
        group = groups.setdefault(place, {"theirs": [], "ours": []})
        for side in group:
            group[side] += line[side]
    lines: list[dict[str, Any]] = [
        {"kind": kind, "task": task, "press": press, "share": round(1 - ratio, 4), "recipe": RECIPES[press]}
        | {side: "".join(str(int(one)) for one in right) for side, right in group.items()}
        for (kind, task, press, ratio), group in sorted(groups.items())
    ]
    write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines))


def main() -> int:
    """Measure what is missing, then gather."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=wide.PER_TASK, help="per task and kind")
    parser.add_argument("--tasks", nargs="+", default=wide.TASKS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--gather", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    if options.gather:
        gather(options.out / "answers.jsonl")
        return 0
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = plan.Settings("reference", torch.float32, quick=True)
    bench = Bench(*keyvalise.reference(), settings)
    documents = wide.documents(options.tasks, wide.KINDS, 1024, options.questions)
    path = options.out / "answers.jsonl"
    measure([Document(document, bench) for document in documents], path)
    gather(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
