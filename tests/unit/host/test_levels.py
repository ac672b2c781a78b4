"""A cache written as streams: lossless to the bit, smaller levels nearer and smaller, damage noticed."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache, Store
from keyvalise.host import looked, saving, unpacked
from keyvalise.store import stream, streamed
from keyvalise.types.errors import CacheFileError, Damaged, InputError, UnknownName
from tests.support import drive
from tests.support.cachefiles import mutated, retold
from tests.support.compare import assert_same
from tests.support.models import tiny

MIXED = "adakv(window=7) > adaptive > int4(residual=8, group=8) @ 40%"
RECIPES = ("full", MIXED, "adakv(window=7) @ 40%", "keydiff @ 20tok", "kivi(2, residual=16, group=8)", "mikv")
N = 63


def held(recipe: str = "full", family: str = "llama", *lengths: int, **options: Any) -> KVCache:
    cache = KVCache(tiny(family), recipe, **options)
    drive.run(tiny(family), cache, drive.text(*(lengths or (N,))).calls(N))
    return cache


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("lengths", [(N,), (N, N - 20)])
@pytest.mark.parametrize("is_lazy", [False, True])
def test_lossless_goes_on_to_the_bit(recipe: str, lengths: tuple[int, ...], is_lazy: bool) -> None:
    cache, model = held(recipe, "llama", *lengths), tiny("llama")
    again = saving.loads(saving.dumps(cache, level="lossless"), model, lazy=is_lazy)
    calls = drive.text(*(n + 12 for n in lengths)).calls(N, 9, 1, 1, 1)[1:]
    a, b = drive.run(model, cache, calls), drive.run(model, again, calls)
    for x, y in zip(a.logits, b.logits, strict=True):
        assert_same(y, x)
    assert a.kept == b.kept and again.nbytes == cache.nbytes


@pytest.mark.parametrize(
    "family", ["qwen3_next", "gemma3", "gpt_oss", "llama4", "deepseek_v3", "bloom", "gpt2", "phi3"]
)
def test_every_kind_of_layer_comes_back(family: str) -> None:
    cache, model = held("full", family), tiny(family)
    again = saving.loads(saving.dumps(cache, level="lossless"), model)
    call = drive.text(N + 1).calls(N, 1)[1:]
    (a,), (b,) = drive.run(model, cache, call).logits, drive.run(model, again, call).logits
    assert_same(b, a)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_smaller_levels_are_smaller_and_err_more(dtype: torch.dtype) -> None:
    model, tokenizer = keyvalise.reference()
    task = keyvalise.tasks.generate("needle", tokens=500, seed=3)
    ids = tokenizer(task.document, return_tensors="pt").input_ids
    cache = KVCache(model, "full", dtype=dtype)
    with torch.no_grad():
        model(ids, past_key_values=cache)
    sizes, errors = [len(saving.dumps(cache, tokens=ids))], [0.0]
    for level in reversed(stream.LEVELS):
        data = saving.dumps(cache, tokens=ids, level=level)
        again = saving.loads(data, model)
        assert again.origin is not None and again.origin.tokens == (tuple(ids[0].tolist()),)
        assert drive.held(again) == drive.held(cache)
        one, two = (torch.cat([x.flatten().float() for x in drive.snapshot(c)]) for c in (cache, again))
        sizes.append(len(data))
        errors.append(float((one - two).norm() / one.norm()))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert errors[1] == 0 and errors[1:] == sorted(set(errors[1:])) and errors[-1] < 0.3


def test_codes_are_written_as_they_are_at_every_level() -> None:
    cache = held("int4(residual=0, group=8)")
    again = saving.loads(saving.dumps(cache, level="smallest"), tiny("llama"))
    for layer, same in zip(cache.shared.layers.values(), again.shared.layers.values(), strict=True):
        assert layer.memory is not None and same.memory is not None
        for one, two in zip(layer.memory.segments, same.memory.segments, strict=True):
            if one.kind == "coded":
                assert_same(two.entries().keys(), one.entries().keys())  # type: ignore[attr-defined]


def test_it_is_looked_at_and_unpacked_like_any_other() -> None:
    cache = held("adakv(window=7) @ 40%")
    plain, packed = (
        streamed.opened(saving.dumps(cache, level=level, tokens=drive.text(N).ids))
        for level in (None, "lossless")
    )
    assert sorted(plain.names) == sorted(packed.names)
    a, b = looked.at(plain), looked.at(packed)
    assert (a.kept, a.lines) == (b.kept, b.lines) and a.file_bytes != b.file_bytes
    assert ("level of the bitstream", "lossless") in list(b.words())
    one, two = unpacked.dense(plain), unpacked.dense(packed)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_store_keeps_levels_apart(tmp_path: Any) -> None:
    model, ids = tiny("llama"), drive.text(N).ids
    plain, exact, near = (Store(tmp_path, level=level) for level in (None, "lossless", "medium"))
    cache = plain.read(model, ids)
    assert exact.get(model, ids) is not None and near.get(model, ids) is None
    near.put(cache, ids)
    found = near.get(model, ids)
    assert found is not None and drive.held(found) == drive.held(cache)
    assert not torch.equal(drive.snapshot(found)[1], drive.snapshot(cache)[1])
    again = plain.get(model, ids)
    assert again is not None and torch.equal(drive.snapshot(again)[1], drive.snapshot(cache)[1])


def test_what_is_refused() -> None:
    cache = held()
    with pytest.raises(UnknownName, match="unknown level 'tiny'"):
        saving.dumps(cache, level="tiny")
    cache.shared.layers[0].memory.segments[-1].arena.keys[:] = torch.inf  # type: ignore[union-attr]
    with pytest.raises(InputError, match="not finite"):
        saving.dumps(cache, level="medium")
    saving.loads(saving.dumps(cache, level="lossless"), tiny("llama"))


@pytest.mark.parametrize("n", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_changed_byte_goes_unnoticed(n: int) -> None:
    model, chance = tiny("llama"), random.Random(0)
    datas = [saving.dumps(held(recipe), level="lossless") for recipe in RECIPES[:3]]
    for i in range(n):
        data = datas[i % len(datas)]
        changed = mutated(data, datas, chance)
        if changed == data:
            continue
        with pytest.raises(CacheFileError):
            saving.loads(changed, model)


def test_a_stream_that_proves_whole_and_makes_no_sense_is_damage() -> None:
    data = saving.dumps(held(), level="lossless")
    twisted = retold(data, lambda inner, outer: inner["streams"]["sheets"].pop())
    with pytest.raises(Damaged):
        saving.loads(twisted, tiny("llama"))
