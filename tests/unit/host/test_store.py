"""Stored caches answer as those that were stored, and what cannot be stored is refused."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache, Store
from keyvalise.host import answer, saving
from keyvalise.host import store as stores
from keyvalise.types.errors import StoreError
from tests.support import drive
from tests.support.models import tiny
from tests.unit.host.kept import NEXT, TEXT, logits, read
from tests.unit.store.tiers import crowd


@pytest.mark.parametrize(
    "recipe", ["full", "snapkv(window=8) @ 25%", "adakv > int4 @ 40%", "h2o @ 50%", "kivi"]
)
def test_a_warm_cache_answers_as_the_cold_one_bit_for_bit(store: Store, recipe: str) -> None:
    model = tiny("llama")
    cold = read(model, TEXT, recipe)
    assert store.get(model, TEXT, recipe) is None
    name = store.put(cold, TEXT)
    warm = store.get(model, TEXT[0].tolist(), recipe)
    assert warm is not None and warm.seen == 150 and str(warm.recipe) == str(cold.recipe)
    assert torch.equal(logits(model, warm), logits(model, cold))
    found = store.stats()
    assert (found.hits, found.misses, found.puts, found.n_objects) == (1, 1, 1, 1) and len(name) == 64
    assert found.bytes_read == found.bytes_written > warm.nbytes // 2


@pytest.mark.parametrize(("n", "served"), [(150, 150), (149, 144), (100, 96), (16, 16), (15, None)])
def test_what_drops_nothing_serves_its_beginnings(store: Store, n: int, served: int | None) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT)
    found = store.longest_prefix(model, TEXT[:, :n])
    assert (None if found is None else found.n_tokens) == served
    if found is None or served is None:
        return
    assert found.cache.seen == served
    cold = read(model, TEXT[:, :served])
    torch.testing.assert_close(logits(model, found.cache), logits(model, cold), atol=1e-4, rtol=0)
    assert found.cache.nbytes <= cold.nbytes


def test_the_remaining_tokens_are_all_that_is_fed(store: Store) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT)
    request = torch.cat([TEXT[:, :120], NEXT], 1)
    found = store.longest_prefix(model, request)
    assert found is not None and found.n_tokens == 112
    warm = logits(model, found.cache, request[:, found.n_tokens :])[:, -1]
    cold = logits(model, KVCache(model), request)[:, -1]
    torch.testing.assert_close(warm, cold, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recipe", ["snapkv(window=8) @ 25%", "int8", "kivi", "int8(residual=0) @ 90%"])
def test_what_was_chosen_by_all_of_it_serves_all_of_it_alone(store: Store, recipe: str) -> None:
    model = tiny("llama")
    cold = read(model, TEXT[:, :96], recipe)
    assert not stores.is_croppable(cold)
    store.put(cold, TEXT[:, :96])
    assert store.longest_prefix(model, TEXT[:, :95], recipe) is None
    found = store.longest_prefix(model, TEXT, recipe)
    assert found is not None and found.n_tokens == 96
    assert torch.equal(logits(model, found.cache), logits(model, cold))
    assert store.get(model, TEXT, recipe) is None


def test_entries_that_were_coded_alone_can_be_cropped(store: Store) -> None:
    model, recipe = tiny("llama"), "int8(residual=0)"
    store.put(read(model, TEXT, recipe), TEXT)
    found = store.longest_prefix(model, TEXT[:, :100], recipe)
    assert found is not None and found.n_tokens == 96
    cold = read(model, TEXT[:, :96], recipe)
    torch.testing.assert_close(logits(model, found.cache), logits(model, cold), atol=1e-3, rtol=0)


def test_a_model_whose_layers_cannot_go_back_serves_whole_contexts(store: Store) -> None:
    model = tiny("gemma2")
    store.put(read(model, TEXT), TEXT)
    assert store.longest_prefix(model, TEXT[:, :100]) is None
    request = torch.cat([TEXT, NEXT], 1)
    found = store.longest_prefix(model, request)
    assert found is not None and found.n_tokens == 150
    torch.testing.assert_close(
        logits(model, found.cache)[:, -1], logits(model, KVCache(model), request)[:, -1], atol=1e-4, rtol=0
    )


def test_a_document_is_read_once_and_its_beginning_only_once(store: Store) -> None:
    model, widths = tiny("llama"), []
    hook = model.register_forward_pre_hook(lambda _, words: widths.append(words[0].shape[1]))
    try:
        first = store.read(model, TEXT[:, :100])
        again = store.read(model, TEXT[:, :100])
        longer = store.read(model, TEXT)
        other = store.read(model, TEXT, "snapkv(window=8) @ 25%")
        store.read(model, TEXT, "snapkv(window=8) @ 25%")
        for n in (96, 150, 150):
            packed = store.read(model, TEXT[:, :n], "int8(residual=0)")
    finally:
        hook.remove()
    assert widths == [100, 50, 150, 96, 150]
    assert torch.equal(logits(model, packed), logits(model, read(model, TEXT, "int8(residual=0)")))
    assert torch.equal(logits(model, first), logits(model, again))
    torch.testing.assert_close(logits(model, longer), logits(model, read(model, TEXT)), atol=1e-4, rtol=0)
    assert torch.equal(logits(model, other), logits(model, read(model, TEXT, "snapkv(window=8) @ 25%")))


def test_questions_to_a_stored_document(store: Store) -> None:
    model, tokenizer = keyvalise.reference()
    laid = answer.prompt(model, tokenizer, "the code of mira tolan is 47 12 . " * 9)
    asked = [laid.question("question : the code of mira tolan is")]
    cold = store.read(model, laid.document, "snapkv @ 50%")
    warm = store.read(model, laid.document, "snapkv @ 50%")
    assert store.stats().hits == 1 and warm is not cold
    assert answer.ask(model, warm, laid.document, asked) == answer.ask(model, cold, laid.document, asked)


@pytest.mark.parametrize(
    ("ids", "tokens", "said"),
    [
        (TEXT, TEXT[:, :-1], "has seen 150 tokens and 149 are given"),
        (TEXT.expand(2, -1), TEXT.expand(2, -1), "one row of tokens, got a tensor of shape"),
        (TEXT.expand(2, -1), TEXT, "caches of one row without padding; take one row with cache.rows"),
        (TEXT[:, :0], TEXT[:, :0], "a context of no token"),
    ],
)
def test_what_cannot_be_kept(store: Store, ids: Tensor, tokens: Tensor, said: str) -> None:
    model = tiny("llama")
    cache = KVCache(model)
    if ids.numel():
        with torch.no_grad():
            model(ids, past_key_values=cache)
    with pytest.raises(StoreError, match=said):
        store.put(cache, tokens)
    assert store.stats().n_objects == 0


def test_padding_is_refused_and_a_row_alone_is_taken(store: Store) -> None:
    model, text = tiny("llama"), drive.text(40, 33)
    cache = KVCache(model)
    drive.run(model, cache, text.calls(40))
    with pytest.raises(StoreError, match="without padding"):
        store.put(cache.rows(torch.tensor([1])), text.ids[1])
    store.put(cache.rows(torch.tensor([0])), text.ids[0])
    assert store.get(model, text.ids[0]) is not None


def test_a_cache_whose_model_is_gone(store: Store) -> None:
    model = type(tiny("llama"))(tiny("llama").config).eval()
    cache = read(model, TEXT)
    del model
    gc.collect()
    with pytest.raises(StoreError, match="is gone, so nobody can tell which it was"):
        store.put(cache, TEXT)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYVALISE_STORE", str(tmp_path / "there"))
    assert repr(Store()) == f"Store('{tmp_path / 'there'}')" and Store().stats().n_objects == 0
    with pytest.raises(StoreError, match="no store is reached by"):
        Store("ftp://there")


@pytest.mark.parametrize("n", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_caches_of_killed_writers_answer_right(store: Store, n: int) -> None:
    """Real caches, written by children of this process until they are killed."""
    model, random = tiny("llama"), Random(n)
    contexts = [drive.text(60 + i, seed=i).ids for i in range(7)]
    made = [read(model, ids, "int8") for ids in contexts]
    goods = [(stores._key(one, "", "", ()), ids[0].tolist()) for one, ids in zip(made, contexts, strict=True)]
    data = [
        saving.dumps(one, tokens=ids, salt=goods[0][0].tenant)
        for one, ids in zip(made, contexts, strict=True)
    ]

    def write(numbers: list[int], said: int) -> None:
        while True:
            for i in numbers:
                store.shelf.put(*goods[i], lambda i=i: data[i], is_croppable=False)
                os.write(said, b"x")

    for _ in range(n):
        assert crowd.killed(random, write, random.sample(range(7), 7)) == -signal.SIGKILL
    found = [store.get(model, ids, "int8") for ids in contexts]
    assert any(found) and store.stats().n_objects == sum(one is not None for one in found)
    for one, cold in zip(found, made, strict=True):
        assert one is None or torch.equal(logits(model, one), logits(model, cold))


FRESH = """
import sys, torch
from keyvalise import Store
from tests.support import drive
from tests.support.models import tiny
torch.set_num_threads(1)
store, model = Store(sys.argv[1], chunk=16), tiny("llama")
found = store.longest_prefix(model, drive.text(150, seed=4).ids[:, :100])
with torch.no_grad():
    said = model(drive.text(9, seed=5).ids, past_key_values=found.cache).logits
print(found.n_tokens, store.stats().hits, said.double().sum().item())
"""


@pytest.mark.slow
def test_a_fresh_process_finds_the_same(store: Store) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT)
    here = store.longest_prefix(model, TEXT[:, :100])
    assert here is not None
    root = Path(keyvalise.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, store.uri], cwd=root, capture_output=True, text=True, check=True
    )
    n_tokens, hits, total = done.stdout.split()
    assert (n_tokens, hits) == ("96", "1")
    assert float(total) == pytest.approx(logits(model, here.cache).double().sum().item(), abs=1e-2)
