"""Rows of a cache that read one document: logits of copies, bytes of one, whoever asks."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, set_seed

from keyvalise import KVCache
from keyvalise.host import saving
from keyvalise.store.shared import Shared
from tests.support import drive
from tests.support.compare import assert_close
from tests.support.models import tiny

N = 190
RECIPES = ("full", "int8(residual=4, group=8)", "snapkv(window=7) @ 160tok", "knorm > adaptive @ 150tok")


def read(recipe: str) -> KVCache:
    """A cache that has read a document of one row and knows that it ends there."""
    cache = KVCache(tiny("llama"), recipe)
    cache.prompt_ends(N)
    drive.run(tiny("llama"), cache, drive.text(N).calls(N))
    return cache


def is_shared(cache: KVCache) -> bool:
    memories = [layer.memory for layer in cache.shared.layers.values()]
    return all(any(isinstance(s, Shared) for s in memory.segments) for memory in memories if memory)


def asked(n_rows: int) -> torch.Tensor:
    """Other tokens in every row."""
    return torch.arange(5 * n_rows).view(n_rows, 5) % 500


@pytest.mark.parametrize("recipe", RECIPES)
def test_many_questions_about_one_document(recipe: str) -> None:
    model, cache = tiny("llama"), read(recipe)
    alone = cache.nbytes
    rows = cache.rows(torch.zeros(6, dtype=torch.long))
    assert is_shared(rows) and rows.nbytes <= alone + 2000
    with torch.no_grad():
        together = model(asked(6), past_key_values=rows).logits
        for row in range(6):
            mine = model(asked(6)[row : row + 1], past_key_values=cache.fork()).logits
            assert_close(together[row : row + 1], mine, "logits_coded" if "int8" in recipe else "logits_fp32")
    assert [head[0] for head in rows.kept_positions(1)] == [
        head[0] + [N + i for i in range(5)] for head in cache.kept_positions(1) * 6
    ]


def test_recipes_that_go_on_deciding_get_copies() -> None:
    for recipe in ("h2o @ 150tok", "streaming @ 150tok", "pages(8) > read(40, block=16)"):
        assert not is_shared(read(recipe).rows(torch.zeros(3, dtype=torch.long)))
    cache = KVCache(tiny("llama"), "snapkv(window=7) @ 160tok")
    drive.run(tiny("llama"), cache, drive.text(N).calls(N))
    assert not is_shared(cache.rows(torch.zeros(3, dtype=torch.long))), "another prompt may follow"


def test_a_shared_cache_is_stored_and_comes_back() -> None:
    model, rows = tiny("llama"), read("full").rows(torch.zeros(4, dtype=torch.long))
    with torch.no_grad():
        model(asked(4), past_key_values=rows)
    again = saving.loads(saving.dumps(rows), model)
    assert is_shared(again) and again.nbytes == rows.nbytes
    with torch.no_grad():
        ids = torch.tensor([[3], [4], [5], [6]])
        got, want = (model(ids, past_key_values=one).logits for one in (again, rows))
    assert torch.equal(got, want)


def test_a_shared_cache_leaves_for_other_tools() -> None:
    rows = read("full").rows(torch.zeros(3, dtype=torch.long))
    copies = read("full")
    for one, other in zip(rows.to_dynamic().layers, copies.to_dynamic().layers, strict=True):
        assert torch.equal(one.keys, other.keys.expand(3, -1, -1, -1))
        assert torch.equal(one.values, other.values.expand(3, -1, -1, -1))


def test_samples_go_on_from_a_shared_beginning() -> None:
    model, ids, found = tiny("llama"), drive.text(N + 4).ids, []
    stock = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :N], past_key_values=stock)
    for cache in (read("full"), stock):
        cache.batch_repeat_interleave(3)
        set_seed(5)
        told = {"past_key_values": cache, "max_new_tokens": 9, "do_sample": True}
        found.append(model.generate(ids.expand(3, -1), **told))
    assert torch.equal(*found) and len({tuple(row) for row in found[0].tolist()}) == 3


def test_beams_share_what_they_have_in_common() -> None:
    model, ids = tiny("llama"), drive.text(N).ids
    caches = (KVCache(model), DynamicCache(config=model.config))
    told = {"max_new_tokens": 30, "num_beams": 4}
    found = [model.generate(ids, past_key_values=cache, **told) for cache in caches]
    assert torch.equal(*found) and is_shared(caches[0])
