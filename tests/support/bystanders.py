"""What a KVCache must leave alone, and what it refuses: checks of a model whose attention is switched on.

Every check takes a family and raises AssertionError, or StockCannot; a check of `REFUSED` returns the
sentence that refuses, or nothing where there is no layer for us to serve.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from keyvalise.types.errors import HostError, KeyvaliseError
from tests.support import drive
from tests.support.compare import assert_close, assert_same
from tests.support.judge import Outcome, quiet, said
from tests.support.models import tiny
from tests.support.modes import LAID, PROMPT
from tests.support.traces import assert_untouched, fresh, state


class StockCannot(Exception):
    """transformers itself raises here."""


def text() -> drive.Text:
    return drive.text(*(n + 3 for n in LAID))


def stock(model: Any) -> list[Tensor]:
    return drive.run(model, DynamicCache(config=model.config), text().calls(PROMPT, 1, 1, 1)).logits


def assert_all_same(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        assert_same(a, b)


def other_cache(family: str) -> None:
    model = fresh(family)
    want, mine = stock(model), KVCache(model)
    drive.run(model, mine, text().calls(PROMPT, 1))
    assert_all_same(stock(model), want)


def static_cache(family: str) -> None:
    model, ids = fresh(family), drive.text(PROMPT).ids

    def said() -> Any:
        return model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            cache_implementation="static",
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )

    try:
        want = said()
    except Exception as error:  # whatever it raises is the answer
        raise StockCannot(str(error)) from error
    KVCache(model)
    got = said()
    assert_all_same([got.sequences, *got.logits], [want.sequences, *want.logits])


def output_attentions(family: str) -> None:
    model, (call,) = fresh(family, "eager"), text().calls(PROMPT)

    def seen() -> list[Tensor]:
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            out = model(call.ids, attention_mask=call.mask, past_key_values=cache, output_attentions=True)
        return [out.logits, *(matrix for matrix in out.attentions if matrix is not None)]

    want = seen()
    if len(want) == 1:
        raise StockCannot("it shows no attention matrices")
    KVCache(model)
    assert_all_same(seen(), want)


def second_thread(family: str) -> None:
    model = fresh(family)
    want, got = stock(model), []
    mine = [KVCache(model) for _ in range(2)]
    thread = threading.Thread(target=lambda: got.extend(stock(model) for _ in range(2)))
    thread.start()
    for cache in mine:
        drive.run(model, cache, text().calls(PROMPT, 1, 1, 1))
    thread.join()
    assert len(got) == 2, "the thread died"
    for logits in got:
        assert_all_same(logits, want)


def detached(family: str) -> None:
    model = fresh(family)
    before, want = state(model), stock(model)
    drive.run(model, KVCache(model), text().calls(PROMPT, 1))
    keyvalise.detach(model)
    assert_untouched(state(model), before)
    assert_all_same(stock(model), want)


def asked_to_be_static(family: str) -> str | None:
    model, ids = fresh(family), drive.text(9).ids
    with pytest.raises(ValueError, match=r"both `cache_implementation` .* and `past_key_values`") as refused:
        model.generate(ids, past_key_values=KVCache(model), cache_implementation="static", max_new_tokens=2)
    return str(refused.value)


def compiled(family: str) -> str | None:
    model, calls = fresh(family), drive.text(9).calls(9)
    cache = KVCache(model)
    traced = torch.compile(model, backend="eager")
    try:
        if cache.shared.layers:
            with pytest.raises(HostError, match=r"cannot be traced by torch\.compile") as refused:
                drive.run(traced, cache, calls)
            return str(refused.value)
        want = drive.run(model, DynamicCache(config=model.config), calls).logits
        assert_close(drive.run(traced, cache, calls).logits[0], want[0], "logits_fp32")
    finally:
        torch.compiler.reset()
    return None


UNTOUCHED: dict[str, Callable[[str], None]] = {
    "a stock cache meanwhile": other_cache,
    "a static stock cache meanwhile": static_cache,
    "output_attentions meanwhile": output_attentions,
    "a stock cache in another thread": second_thread,
    "after detach": detached,
}
"""Bit for bit as before."""

REFUSED: dict[str, Callable[[str], str | None]] = {
    'KVCache with cache_implementation="static"': asked_to_be_static,
    "KVCache under torch.compile": compiled,
}

BUILDS = {
    "deepseek_v3": ("which neither the model", ("snapkv @ 40%", "h2o @ 40%")),
    "falcon": ("without the attention interface", ("streaming @ 40%", "knorm @ 40%", "snapkv @ 40%")),
    "bloom": ("without the attention interface", ("streaming @ 40%", "knorm @ 40%", "snapkv @ 40%")),
}
"""family → recipes that are refused when a cache is built, and a piece of the sentence."""


def builds(family: str) -> dict[str, Outcome]:
    """recipe → how it is refused at construction."""
    piece, names = BUILDS.get(family, ("", ()))
    found: dict[str, Outcome] = {}
    for recipe in names:
        try:
            KVCache(tiny(family), recipe)
            found[recipe] = "wrong: not refused"
        except KeyvaliseError as refused:
            found[recipe] = f"{'refused' if piece in str(refused) else 'wrong: refused'}: {said(refused)}"
    return found


def outcome(family: str, name: str) -> Outcome:
    """What came of one check."""
    try:
        with quiet():
            sentence = (UNTOUCHED | REFUSED)[name](family)
    except StockCannot as error:
        return f"stock cannot: {said(error)}"
    except Exception as crashed:
        return f"wrong: {type(crashed).__name__}: {said(crashed)}"
    return 0.0 if sentence is None else f"refused: {sentence}"
