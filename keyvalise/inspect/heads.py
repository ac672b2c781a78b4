"""What every query head does: measured on generated text, in one pass over a few documents.

    retrieval             its strongest attention is on the needle's token that is being copied
    retrieval_reasoning   attention weight on the needle among its strongest places, whatever the token
    semantic_retrieval    attention on the whole needle while a token of it is produced
    evaluators            attention of the question's end on the needle
    sink                  attention on the first token
    streaming             attention on the first tokens and the newest ones

All are means over the trials that the model answers rightly, [L, Hq]; layers whose cache does not grow hold
zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import answer
from keyvalise.host.model import host_layers, text_config
from keyvalise.inspect.rows import Rows
from keyvalise.reference import tasks
from keyvalise.types.errors import InputError

MEASURES = ("retrieval", "retrieval_reasoning", "semantic_retrieval", "evaluators", "sink", "streaming")
WINDOW, SINKS, RECENT = 16, 4, 64
"""Queries of the question's end that are asked; what counts as first and as newest tokens."""


@dataclass(frozen=True)
class Needle:
    """A document [1, N], a question, its answer's text, and the columns that the asked sentence covers."""

    prompt: answer.Prompt
    question: list[int]
    answer: str
    first: int
    end: int


@dataclass(frozen=True)
class Heads:
    """measure → [L, Hq]; how many trials were right, of how many."""

    scores: dict[str, Tensor]
    n_right: int
    n_trials: int


def measure(
    model: Any, tokenizer: Any, needles: Iterable[Needle], progress: Callable[[], None] | None = None
) -> Heads:
    """Ask every needle and look where the heads look while the model answers.

    Raises   InputError where no needle is answered rightly: heads of a model that does not retrieve say
             nothing
    """
    config = text_config(model)
    shape = (len(host_layers(model)), config.num_attention_heads)
    total = {name: torch.zeros(shape) for name in MEASURES}
    n_right = n_trials = 0
    for needle in needles:
        found = trial(model, tokenizer, needle)
        n_trials += 1
        if found is not None:
            n_right += 1
            for name, layers in found.items():
                for layer, scores in layers.items():
                    total[name][layer] += scores.cpu()
        if progress is not None:
            progress()
    if not n_right:
        raise InputError(f"the model answers none of {n_trials} needles, so its heads cannot be told apart")
    return Heads({name: scores / n_right for name, scores in total.items()}, n_right, n_trials)


def trial(model: Any, tokenizer: Any, needle: Needle) -> dict[str, dict[int, Tensor]] | None:
    """The measures of one needle, layer → [Hq]; None where the answer is wrong."""
    rows = Rows.on(model, WINDOW)
    rows.cache.prompt_ends(needle.prompt.document.shape[1])
    with torch.no_grad():
        model(needle.prompt.document, past_key_values=rows.cache, logits_to_keep=1)
    rows.clear()
    tokens = answer.converse(model, rows.cache, needle.prompt.document, needle.question)
    if tokenizer.decode(list(tokens), skip_special_tokens=True).strip() != needle.answer:
        return None
    ids = torch.cat([needle.prompt.document[0], torch.tensor(needle.question, device=model.device)])
    found: dict[str, dict[int, Tensor]] = {name: {} for name in MEASURES}
    for layer in rows.calls[0]:
        steps = [(call[layer][:, -1], token) for call, token in zip(rows.calls, tokens, strict=False)]
        for name, scores in _of_layer(steps, rows.calls[0][layer], ids, needle).items():
            found[name][layer] = scores
    return found


def _of_layer(
    steps: list[tuple[Tensor, int]], window: Tensor, ids: Tensor, needle: Needle
) -> dict[str, Tensor]:
    """All measures of one layer: `steps` are (row [Hq, T], token it produced), `window` [Hq, n, T]."""
    span, width = slice(needle.first, needle.end), needle.end - needle.first
    n_heads = window.shape[0]
    copied, weighed, meant = (torch.zeros(n_heads, device=window.device) for _ in range(3))
    for row, token in steps:
        best = row.argmax(-1)
        inside = (best >= needle.first) & (best < needle.end)
        copied += (inside & (ids[best.clamp(max=len(ids) - 1)] == token)) / width
        places = row.topk(min(width, row.shape[1]), -1)
        among = (places.indices >= needle.first) & (places.indices < needle.end)
        weighed += (places.values * among).sum(-1) / width
        meant += row[:, span].sum(-1) * int((ids[span] == token).sum())
    last = window[:, -1]
    ends = torch.cat([last[:, :SINKS], last[:, max(SINKS, last.shape[1] - RECENT) :]], 1)
    return {
        "retrieval": copied,
        "retrieval_reasoning": weighed,
        "semantic_retrieval": meant,
        "evaluators": window[:, :, span].sum(-1).mean(-1),
        "sink": last[:, 0],
        "streaming": ends.sum(-1),
    }


def needles(
    model: Any, tokenizer: Any, *, tokens: int, n: int, seed: int = 0, task: str = "needle"
) -> Iterable[Needle]:
    """n needles in generated training documents of about `tokens` reference tokens."""
    made = 0
    while made < n:
        page = tasks.generate(task, tokens=tokens, seed=seed, split="train")
        seed += 1
        laid = answer.prompt(model, tokenizer, page.document)
        for question, said in zip(page.questions, page.answers, strict=True):
            place = sentence(page.document, question, said)
            span = columns(tokenizer, page.document, laid, place) if place else None
            if span and made < n:
                made += 1
                yield Needle(laid, laid.question(question), said, *span)


def sentence(document: str, question: str, said: str) -> tuple[int, int] | None:
    """Characters of the sentence that holds the answer and shares most words with the question."""
    begin, best, most = 0, None, 0
    asked = set(question.split())
    for text in document.split(" . "):
        shared = len(asked & set(text.split()))
        if f" {said}" in text and shared > most:
            best, most = (begin, begin + len(text)), shared
        begin += len(text) + 3
    return best


def columns(
    tokenizer: Any, document: str, laid: answer.Prompt, place: tuple[int, int]
) -> tuple[int, int] | None:
    """The columns of the laid document that cover these characters."""
    head = tokenizer(document[: place[0]].rstrip(), add_special_tokens=False).input_ids
    body = tokenizer(document[: place[1]], add_special_tokens=False).input_ids
    whole = tokenizer(document, add_special_tokens=False).input_ids
    before = laid.document.shape[1] - len(whole) if not laid.after else _found(laid, whole)
    return (before + len(head), before + len(body)) if before is not None else None


def _found(laid: answer.Prompt, whole: list[int]) -> int | None:
    """Where the document's ids begin inside a chat template; its first and last may have merged."""
    ids, inner = laid.document[0].tolist(), whole[1:-1]
    for begin in range(len(ids) - len(inner) + 1):
        if ids[begin : begin + 8] == inner[:8] and ids[begin : begin + len(inner)] == inner:
            return begin - 1
    return None
