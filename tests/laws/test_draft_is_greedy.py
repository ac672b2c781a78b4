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
from tests.support.models import tiny

PROMPT, NEW = 60, 14


@functools.cache
def prompt() -> torch.Tensor:
    """Ids [1, PROMPT] that repeat themselves, so that a lookup finds something to draft."""
    return drive.text(PROMPT // 3).ids.repeat(1, 3)


@functools.cache
def assistant(noise: float) -> Any:
    """The tiny model with noise on its weights: its drafts are right now and then."""
    keyvalise.detach(tiny("llama"))
    model = copy.deepcopy(tiny("llama"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def generate(case: Case, **options: Any) -> tuple[list[int], KVCache]:
    """Greedy ids, and the cache that made them."""
    model, cache = tiny("llama"), KVCache(tiny("llama"), case.text)
    if not case.rhythm:
        cache.prompt_ends(PROMPT)
    ids = prompt()
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        max_new_tokens=NEW,
        do_sample=False,
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


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_assistant_model(case: Case, said: dict[str, tuple[list[int], KVCache]], noise: float) -> None:
    check(case, said, assistant_model=assistant(noise))


def test_drafts_are_accepted_and_refused_in_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    crops: list[int] = []
    crop = KVCache.crop

    def watched(cache: KVCache, n: int) -> None:
        crops.append(n)
        crop(cache, n)

    monkeypatch.setattr(KVCache, "crop", watched)
    for options in (
        {"prompt_lookup_num_tokens": 4},
        *({"assistant_model": assistant(n)} for n in (0.01, 0.1)),
    ):
        crops.clear()
        generate(Case("full", "full"), **options)
        assert any(n < 0 for n in crops), f"nothing was taken back: {crops}"
        assert len(crops) < NEW, f"nothing was accepted: {crops}"


def test_without_prompt_ends_the_first_crop_tells(entry: Case) -> None:
    if entry.decodes:
        return
    model, ids = tiny("llama"), prompt()
    cache = KVCache(model, entry.text)
    model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=NEW, do_sample=False,
        prompt_lookup_num_tokens=4,
    )  # fmt: skip
    recipe_runs = {len(head) for rows in drive.held(cache).values() for row in rows for head in row}
    assert (min(recipe_runs) < PROMPT) == entry.drops
