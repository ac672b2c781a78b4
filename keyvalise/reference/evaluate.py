"""Held-out accuracy: exact match of greedy answers, every question asked after the whole document.

Documents are read once; their questions are answered as a batch on copies of the cache.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from keyvalise.reference import tasks
from keyvalise.reference.tasks.words import vocabulary

MOST_QUESTIONS = 4
MOST_ANSWER = 9
FIRST_SEED = 1_000_000


def wilson(n_right: int, n_all: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share."""
    share = n_right / n_all
    middle = (share + z * z / (2 * n_all)) / (1 + z * z / n_all)
    half = z * math.sqrt(share * (1 - share) / n_all + z * z / (4 * n_all * n_all)) / (1 + z * z / n_all)
    return max(0.0, middle - half), min(1.0, middle + half)


def answer_all(
    model: Any, document: Sequence[int], questions: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    """Greedy answers as ids, one list per question, the document read once. Plain cache, no generate()."""
    import torch
    from transformers import DynamicCache

    stop = vocabulary()["</s>"]
    with torch.inference_mode():
        cache = DynamicCache(config=model.config)
        model.model(input_ids=torch.tensor([document], device=model.device), past_key_values=cache)
        for length in sorted({len(question) for question in questions}):
            rows = [question for question in questions if len(question) == length]
            fork = _repeat(cache, len(rows), model.config)
            tokens = torch.tensor(rows, device=model.device)
            written = []
            for _ in range(MOST_ANSWER):
                tokens = model(input_ids=tokens, past_key_values=fork, logits_to_keep=1).logits.argmax(-1)
                written.append(tokens)
                if bool(torch.cat(written, 1).eq(stop).any(1).all()):
                    break
            yield from _cut(torch.cat(written, 1).tolist(), stop)


def _cut(rows: list[list[int]], stop: int) -> list[list[int]]:
    return [row[: row.index(stop)] if stop in row else row for row in rows]


def _repeat(cache: Any, n_rows: int, config: Any) -> Any:
    from transformers import DynamicCache

    fork = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        fork.update(layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1), index)
    return fork


def row(model: Any, name: str, kind: str, tokens: int, n_documents: int) -> dict[str, Any]:
    """One line of the table: `n_documents` held-out documents, at most `MOST_QUESTIONS` questions of each."""
    known = vocabulary()
    n_right = n_all = 0
    for seed in range(FIRST_SEED, FIRST_SEED + n_documents):
        task = tasks.generate(name, tokens=tokens, seed=seed, kind=kind)
        pairs = list(zip(task.questions, task.answers, strict=True))[:MOST_QUESTIONS]
        pairs.sort(key=lambda pair: len(pair[0].split()))
        document = [known["<s>"], *(known[word] for word in task.document.split())]
        asked = [[known[word] for word in question.split()] for question, _ in pairs]
        for given, (_, answer) in zip(answer_all(model, document, asked), pairs, strict=True):
            n_right += given == [known[word] for word in answer.split()]
            n_all += 1
    low, high = wilson(n_right, n_all)
    return {
        "task": name,
        "kind": kind,
        "tokens": tokens,
        "documents": n_documents,
        "questions": n_all,
        "right": n_right,
        "accuracy": round(n_right / n_all, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def table(
    folder: str | Path, names: Sequence[str], lengths: Sequence[int], n_documents: int, n_workers: int = 1
) -> list[dict[str, Any]]:
    """All rows, length by length; one process with one thread for each worker."""
    cells = [(name, kind, tokens) for tokens in lengths for kind in tasks.KINDS for name in names]
    measure = functools.partial(_measured, str(folder), n_documents)
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(measure, *zip(*cells, strict=True)))


def _measured(folder: str, n_documents: int, name: str, kind: str, tokens: int) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return row(model, name, kind, tokens, n_documents)
