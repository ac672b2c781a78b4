"""Every mode in which a cache is used, one small function each: it drives a model with a cache it is given.

A mode knows no oracle and makes the same calls with transformers' own cache and with ours.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from tests.support import drive
from tests.support.models import VOCABULARY

PROMPT, NEW = 41, 6
LAID = (PROMPT, 30, 7)
"""Rows of a padded batch."""

CHUNK = 13
SAYS = drive.text(PROMPT).ids[0, 8:16].tolist()
FEW = [token for token in range(VOCABULARY) if token not in SAYS]
"""Suppressed: all but a run of the prompt, so that a lookup finds something to draft, and errs."""

Play = Callable[[Any, Any], Tensor | None]


@dataclass(frozen=True)
class Mode:
    """A way to use a cache; `play` returns the ids that were generated, if any were.

    cuts      the prompt's forwards of a run that decides at the same places, where the mode's own forwards
              do not tell: drafts that are taken back, and cuts inside a forward
    chunk     the cache's own prefill_chunk
    """

    name: str
    play: Play
    dtype: torch.dtype = torch.float32
    cuts: tuple[int, ...] = ()
    chunk: int | None = None
    drafts: bool = False


def tell_end(cache: Any, n: int) -> None:
    """Say where the prompt ends, to a cache that wants to know."""
    if isinstance(cache, KVCache):
        cache.prompt_ends(n)


def generate(model: Any, cache: Any, text: drive.Text, **options: Any) -> Tensor:
    settings = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
    ids: Tensor = model.generate(text.ids, attention_mask=text.mask, past_key_values=cache, **settings)
    return ids


def seeded(model: Any, cache: Any, text: drive.Text, **options: Any) -> Tensor:
    """Sampling that draws the same lots for every cache."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return generate(model, cache, text, do_sample=True, **options)


def greedy(model: Any, cache: Any) -> Tensor:
    return generate(model, cache, drive.text(PROMPT))


def sampling(model: Any, cache: Any) -> Tensor:
    return seeded(model, cache, drive.text(PROMPT), temperature=2.0)


def beams(model: Any, cache: Any) -> Tensor:
    return generate(model, cache, drive.text(PROMPT), num_beams=3)


def several_returns(model: Any, cache: Any) -> Tensor:
    return seeded(model, cache, drive.text(PROMPT), num_return_sequences=3, temperature=2.0)


def padded_batch(model: Any, cache: Any) -> Tensor:
    return generate(model, cache, drive.text(*LAID))


def padded_two_turns(model: Any, cache: Any) -> None:
    drive.run(model, cache, drive.text(*(n + 12 for n in LAID)).calls(PROMPT, 1, 1, 7, 1, 1))


def crop(model: Any, cache: Any) -> None:
    drafted, other = drive.text(PROMPT + 3), drive.text(PROMPT + 3, seed=5)
    drive.run(model, cache, drafted.calls(PROMPT, 1, 1, 1))
    cache.crop(-2)
    ids = torch.cat([drafted.ids[:, : PROMPT + 1], other.ids[:, PROMPT + 1 :]], 1)
    drive.run(model, cache, drive.Text(ids, other.mask).calls(PROMPT + 1, 1, 1)[1:])


def crop_of_drafts(model: Any, cache: Any) -> None:
    text = drive.text(PROMPT + 12)
    tell_end(cache, PROMPT)
    cache.activate_past_recording()
    drive.run(model, cache, text.calls(PROMPT))
    seen = PROMPT
    for accepted in (1, 4, 2):
        drive.run(model, cache, text.calls(seen, 5)[1:])
        cache.crop(accepted - 5)
        seen += accepted


def changed_rows(change: Callable[[Any], None], rows: list[int]) -> Play:
    """A batch whose rows change places between two forwards."""

    def play(model: Any, cache: Any) -> None:
        text = drive.text(*(n + 5 for n in LAID))
        drive.run(model, cache, text.calls(PROMPT, 1, 1))
        change(cache)
        drive.run(model, cache, drive.Text(text.ids[rows], text.mask[rows]).calls(PROMPT + 2, 1, 1)[1:])

    return play


reorder = changed_rows(lambda cache: cache.reorder_cache(torch.tensor([2, 0, 0])), [2, 0, 0])
select = changed_rows(lambda cache: cache.batch_select_indices(torch.tensor([1, 2])), [1, 2])
repeat = changed_rows(lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2])


def callers_chunks(model: Any, cache: Any) -> None:
    tell_end(cache, PROMPT)
    drive.run(model, cache, drive.text(PROMPT + 3).calls(CHUNK, CHUNK, CHUNK, PROMPT - 3 * CHUNK, 1, 1, 1))


def generates_chunks(model: Any, cache: Any) -> Tensor:
    return generate(model, cache, drive.text(*LAID), prefill_chunk_size=CHUNK)


def own_chunks(model: Any, cache: Any) -> None:
    tell_end(cache, PROMPT)
    drive.run(model, cache, drive.text(PROMPT + 3).calls(PROMPT, 1, 1, 1))


def prompt_lookup(model: Any, cache: Any) -> Tensor:
    tell_end(cache, PROMPT)
    text = drive.text(PROMPT)
    return generate(
        model, cache, text, prompt_lookup_num_tokens=4, suppress_tokens=FEW, max_new_tokens=2 * NEW
    )


def assistant_model(model: Any, cache: Any) -> Tensor:
    tell_end(cache, PROMPT)
    return generate(
        model,
        cache,
        drive.text(PROMPT),
        assistant_model=assistant(model),
        suppress_tokens=FEW,
        max_new_tokens=2 * NEW,
    )


@functools.cache
def assistant(model: Any) -> Any:
    """The model with noise on its weights: its drafts are right now and then."""
    keyvalise.detach(model)
    noisy = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight += 0.3 * weight.abs().mean() * torch.randn(weight.shape, generator=generator)
    settings = noisy.generation_config
    settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = 4, "constant"
    settings.assistant_confidence_threshold = 0.0
    return noisy


def second_turn(model: Any, cache: Any) -> Tensor:
    said = generate(model, cache, drive.text(PROMPT))
    history = torch.cat([said, drive.text(9, seed=2).ids], 1)
    return generate(model, cache, drive.Text(history, torch.ones_like(history)))


def two_caches(model: Any, cache: Any) -> None:
    """Another cache of the same kind, and transformers' own, take other texts in between."""
    mine, others = drive.text(PROMPT + 3).calls(PROMPT, 1, 1, 1), drive.text(*LAID, seed=1)
    second = DynamicCache(config=model.config)
    if isinstance(cache, KVCache):
        second = KVCache(model, cache.recipe)
    third = DynamicCache(config=model.config)
    for i, call in enumerate(mine):
        drive.run(model, cache, [call])
        for other in (second, third):
            drive.run(model, other, others.calls(PROMPT - 3, 1, 1, 1)[i : i + 1])


MODES = (
    Mode("greedy", greedy),
    Mode("sampling, seeded", sampling),
    Mode("3 beams", beams),
    Mode("3 returns, sampled", several_returns),
    Mode("left-padded batch", padded_batch),
    Mode("left-padded batch, two turns", padded_two_turns),
    Mode("second turn, full history", second_turn),
    Mode("crop", crop),
    Mode("crop of drafts", crop_of_drafts, cuts=(PROMPT,), drafts=True),
    Mode("reorder_cache", reorder),
    Mode("batch_select_indices", select),
    Mode("batch_repeat_interleave", repeat),
    Mode("chunks by the caller", callers_chunks),
    Mode("generate(prefill_chunk_size)", generates_chunks),
    Mode("KVCache(prefill_chunk)", own_chunks, cuts=(CHUNK,) * 3 + (PROMPT - 3 * CHUNK,), chunk=CHUNK),
    Mode("prompt lookup", prompt_lookup, cuts=(PROMPT,), drafts=True),
    Mode("assistant model", assistant_model, cuts=(PROMPT,), drafts=True),
    Mode("two caches at once", two_caches),
    Mode("bf16", padded_two_turns, torch.bfloat16),
    Mode("fp16", padded_two_turns, torch.float16),
)
BY_NAME = {mode.name: mode for mode in MODES}
