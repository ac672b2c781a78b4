"""Shorter text: an ordered choice of tokens that ends with the last ones."""

from __future__ import annotations

from typing import Any

import pytest

import keyvalise
from keyvalise.host.cache import KVCache
from keyvalise.reference import tasks
from keyvalise.types.errors import AssetError, InputError
from tests.support import profiles


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model, tokenizer = keyvalise.reference()
    return profiles.give(model), tokenizer


TASK = tasks.generate("needle", tokens=256, seed=3)
TEXT = f"{TASK.document} {TASK.questions[0]}"


def test_words_stay_in_order_and_the_last_ones_stay(loaded: tuple[Any, Any]) -> None:
    shorter = keyvalise.shorten(*loaded, TEXT, 60, window=9, neighbours=5).split()
    rest = iter(TEXT.split())
    assert all(word in rest for word in shorter), "a subsequence"
    assert len(shorter) == 60 and shorter[-9:] == TEXT.split()[-9:]


def test_a_share_is_of_the_tokens(loaded: tuple[Any, Any]) -> None:
    n = len(TEXT.split())
    assert len(keyvalise.shorten(*loaded, TEXT, 0.5).split()) == int(n * 0.5)


def test_what_fits_stays_to_the_letter(loaded: tuple[Any, Any]) -> None:
    assert keyvalise.shorten(*loaded, TEXT, 10_000) == TEXT


def test_only_the_layers_up_to_the_evaluators_run(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ran: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, layer in enumerate(model.model.layers)
    ]
    try:
        keyvalise.shorten(model, tokenizer, TEXT, 60)
    finally:
        for hook in hooks:
            hook.remove()
    heads = KVCache(model, "ehpc @ 50%").shared.fixed["evaluators"]["heads"]
    assert ran == list(range(int(heads.sum(1).argmax())))


@pytest.mark.parametrize(
    ("text", "budget", "said"),
    [(" ", 9, "the text is empty"), (TEXT, 16, "does not hold more than the last 16")],
)
def test_what_cannot_be_done_is_said(loaded: tuple[Any, Any], text: str, budget: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        keyvalise.shorten(*loaded, text, budget)


def test_a_model_without_a_profile_is_told_how_to_get_one(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(AssetError, match="keyvalise profile"):
        keyvalise.shorten(*loaded, TEXT, 60, profile="nothing")
