"""A model's own answers to questions about generated documents, sampled, judged, and scored once more."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from keyvalise.host import answer
from keyvalise.reference import tasks
from keyvalise.train import lessons

Judge = Callable[[Sequence[int]], bool]


@dataclass(frozen=True)
class Problem:
    """A prompt int64 [1, N] whose first `document` tokens know no question, and what answers are right."""

    prompt: Tensor
    is_right: Judge
    document: int = 0
    task: str = ""


@dataclass(frozen=True)
class Group:
    """n answers to one problem, their end token included where there is one.

    Shapes   tokens int64 [n, A], mask bool [n, A], chances float32 [n, A] (log-probability when sampled),
             rewards float32 [n], 1 for a right answer
    """

    problem: Problem
    tokens: Tensor
    mask: Tensor
    chances: Tensor
    rewards: Tensor

    def only(self, row: int) -> Group:
        """One answer alone, as long as it is."""
        n, rows = int(self.mask[row].sum()), slice(row, row + 1)
        cut = self.tokens[rows, :n], self.mask[rows, :n], self.chances[rows, :n]
        return Group(self.problem, *cut, self.rewards[rows])


def problems(
    model: Any, tokenizer: Any, names: Sequence[str], lengths: tuple[int, int], *, seed: int = 0
) -> Iterator[Problem]:
    """One question about each of endlessly many documents of the training split, of `lengths` tokens."""
    rng = random.Random(f"problems {seed}")
    while True:
        name, tokens = rng.choice(list(names)), lessons.length(rng, lengths)
        kind = rng.choice(tasks.KINDS)
        page = tasks.generate(name, tokens=tokens, seed=rng.randrange(10**9), split="train", kind=kind)
        place = rng.randrange(len(page.questions))
        laid = answer.prompt(model, tokenizer, page.document)
        asked = torch.tensor([laid.question(page.questions[place])], device=model.device)
        prompt = torch.cat([laid.document, asked], 1)
        yield Problem(prompt, judge(tokenizer, page.answers[place]), laid.document.shape[1], name)


def judge(tokenizer: Any, said: str) -> Judge:
    """Exact match of the first line, whatever its case, its spaces and the full stop at its end."""

    def plain(text: str) -> list[str]:
        line = next((line for line in text.splitlines() if line.strip()), "")
        return line.casefold().strip().rstrip(".").split()

    wanted = plain(said)
    return lambda tokens: plain(tokenizer.decode(list(tokens), skip_special_tokens=True)) == wanted


def sample(
    model: Any, problem: Problem, n: int = 1, *, most: int = 32, temperature: float = 1.0, seed: str = ""
) -> Group:
    """n answers of at most `most` tokens; the same for the same seed. Temperature 0: the likeliest tokens."""
    draws = torch.Generator(model.device).manual_seed(random.Random(f"answers {seed}").getrandbits(63))
    ends = torch.tensor(_ends(model), device=model.device, dtype=torch.long)
    cache = DynamicCache(config=model.config)
    is_open = torch.ones(n, dtype=torch.bool, device=model.device)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        logits = model(problem.prompt, past_key_values=cache, logits_to_keep=1).logits[:, -1]
        cache.batch_repeat_interleave(n)
        logits = logits.expand(n, -1)
        while True:
            chances = (logits.float() / (temperature or 1.0)).log_softmax(-1)
            drawn = torch.multinomial(chances.exp(), 1, generator=draws) if temperature else None
            token = chances.argmax(-1, keepdim=True) if drawn is None else drawn
            columns.append((token[:, 0], is_open, chances.gather(1, token)[:, 0]))
            is_open = is_open & ~torch.isin(token[:, 0], ends)
            if len(columns) == most or not bool(is_open.any()):
                break
            logits = model(token, past_key_values=cache, logits_to_keep=1).logits[:, -1]
    tokens, mask, found = (torch.stack(column, 1) for column in zip(*columns, strict=True))
    said = [[t for t in row[keep].tolist() if t not in ends] for row, keep in zip(tokens, mask, strict=True)]
    rewards = torch.tensor([float(problem.is_right(one)) for one in said], device=model.device)
    return Group(problem, tokens, mask, found, rewards)


def logits_of(model: Any, group: Group) -> Tensor:
    """What the model expects at every token of the answers, float32 [n, A, V]; gradients flow."""
    n, width = group.tokens.shape
    ids = torch.cat([group.problem.prompt.expand(n, -1), group.tokens], 1)
    logits: Tensor = model(ids, use_cache=False, logits_to_keep=width + 1).logits
    return logits[:, -width - 1 : -1].float()


def chances_of(model: Any, group: Group, temperature: float = 1.0) -> Tensor:
    """Log-probabilities [n, A] of the answers as they would be sampled now."""
    chances = (logits_of(model, group) / temperature).log_softmax(-1)
    return chances.gather(-1, group.tokens[..., None])[..., 0]


def _ends(model: Any) -> list[int]:
    end = model.generation_config.eos_token_id
    return list(end) if isinstance(end, list | tuple) else ([] if end is None else [end])
