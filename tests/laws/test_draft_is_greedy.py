"""draft_is_greedy: assisted decoding says what greedy decoding says, whatever is accepted and taken back."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.models import VOCABULARY, tiny

PROMPT, NEW = 60, 16
FEW = list(range(11, VOCABULARY))
"""Suppressed: of so few tokens a random model repeats itself, and a lookup finds something to draft."""


@functools.cache
def prompt() -> torch.Tensor:
    """Ids [1, PROMPT] in which tokens come again and again."""
    return drive.text(PROMPT).ids % 6 + 5


@functools.cache
def assistant(noise: float, dtype: torch.dtype = torch.float32) -> Any:
    """The tiny model with noise on its weights: its drafts are right now and then."""
    keyvalise.detach(tiny("llama", dtype))
    model = copy.deepcopy(tiny("llama", dtype))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    settings = model.generation_config
    settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = 5, "constant"
    settings.assistant_confidence_threshold = 0.0
    return model


def generate(case: Case, *, says_end: bool = True, **options: Any) -> tuple[list[int], KVCache]:
    """Greedy ids, and the cache that made them; told where the prompt ends where the recipe must know."""
    cache = KVCache(case.model, case.text)
    if says_end and not case.beats_everywhere:
        cache.prompt_ends(PROMPT)
    ids = prompt()
    out = case.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        max_new_tokens=NEW,
        do_sample=False,
        suppress_tokens=FEW,
        **options,
    )
    return out[0].tolist(), cache


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[list[int], KVCache]]:
    """Greedy decoding per recipe, made once."""
    return {}


def check(case: Case, said: dict[str, tuple[list[int], KVCache]], **options: Any) -> None:
    """The same ids; what is held afterwards is what greedy decoding held at that point."""
    if case.name not in said:
        said[case.name] = generate(case)
    want, straight = said[case.name]
    got, cache = generate(case, **options)
    assert got == want
    ahead = straight.seen - cache.seen
    if ahead == 0:
        assert drive.held(cache) == drive.held(straight)


def test_prompt_lookup(case: Case, said: dict[str, tuple[list[int], KVCache]]) -> None:
    check(case, said, prompt_lookup_num_tokens=4)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_assistant_model(case: Case, said: dict[str, tuple[list[int], KVCache]], noise: float) -> None:
    check(case, said, assistant_model=assistant(noise, case.model.dtype))


def test_drafts_are_accepted_and_refused_in_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    crops: list[int] = []
    crop = KVCache.crop

    def watched(cache: KVCache, n: int) -> None:
        crops.append(n)
        crop(cache, n)

    monkeypatch.setattr(KVCache, "crop", watched)
    lookup, likely, unlikely = (
        {"prompt_lookup_num_tokens": 4},
        {"assistant_model": assistant(0.03)},
        {"assistant_model": assistant(0.1)},
    )
    for options, is_refused in ((lookup, True), (likely, False), (unlikely, True)):
        crops.clear()
        generate(Case("full", "full"), **options)
        assert any(n < 0 for n in crops) == is_refused, crops
        assert len(crops) < NEW - 2, f"hardly anything was accepted: {crops}"


def test_without_prompt_ends_the_first_crop_tells(entry: Case) -> None:
    if entry.decodes:
        return
    _, cache = generate(entry, says_end=False, prompt_lookup_num_tokens=4)
    assert (min(drive.counts(drive.held(cache))) < PROMPT) == entry.drops
