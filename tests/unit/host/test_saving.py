"""A cache in a file: it goes on where it stopped, with everything that was told of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from keyvalise import KVCache
from keyvalise.host import saving
from keyvalise.store import file
from keyvalise.types.errors import (
    Damaged,
    InputError,
    OtherModel,
    TornForward,
)
from tests.support import drive
from tests.support.compare import assert_same
from tests.support.models import tiny
from tests.unit.host.kept import MIXED, stored


def goes_on(model: Any, one: KVCache, two: KVCache, n: int = 63) -> None:
    """Both answer the same to the bit: a second turn and three steps."""
    calls = drive.text(n + 12, n - 8).calls(n, 9, 1, 1, 1)[1:]
    a, b = drive.run(model, one, calls), drive.run(model, two, calls)
    for i, (x, y) in enumerate(zip(a.logits, b.logits, strict=True)):
        assert_same(y, x, what=f"call {i}")
    assert a.kept == b.kept


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        ("llama", MIXED),
        ("qwen3_next", MIXED),
        ("gemma3", MIXED),
        ("gpt_oss", "snapkv(window=7) @ 40%"),
        ("llama4", "knorm @ 40%"),
        ("deepseek_v3", "knorm @ 40%"),
        ("bloom", "int8(residual=8, group=8)"),
    ],
)
def test_every_kind_of_layer_goes_on(family: str, recipe: str, is_lazy: bool, tmp_path: Path) -> None:
    model = tiny(family)
    cache = KVCache(model, recipe)
    calls = drive.text(75, 75 if family == "bloom" else 55).calls(63, 9, 1, 1, 1)
    drive.run(model, cache, calls[:1])
    cache.save(tmp_path / "x.kv")
    again = KVCache.load(tmp_path / "x.kv", model, lazy=is_lazy)
    assert again.seen == cache.seen
    a, b = drive.run(model, cache, calls[1:]), drive.run(model, again, calls[1:])
    for x, y in zip(a.logits, b.logits, strict=True):
        assert_same(y, x)
    assert a.kept == b.kept and again.nbytes == cache.nbytes


def test_settings_come_along() -> None:
    model = tiny("llama")
    cache = KVCache(model, "random @ 40%", dtype=torch.bfloat16, prefill_chunk=7, seed=11)
    cache.span("image", 3, 9)
    cache.prompt_ends(80)
    drive.run(model, cache, drive.text(80).calls(63))
    again = saving.loads(saving.dumps(cache), model)
    assert again.recipe == cache.recipe and again.shared.geometry == cache.shared.geometry
    for name in ("prefill_chunk", "seed", "prompt_columns", "spans", "is_drafting"):
        assert getattr(again.shared, name) == getattr(cache.shared, name), name
    calls = drive.text(82).calls(63, 17, 1, 1)[1:]
    a, b = drive.run(model, cache, calls), drive.run(model, again, calls)
    assert a.kept == b.kept and again.nbytes == cache.nbytes


def test_states_that_a_prompt_has_gathered_come_along() -> None:
    model, recipe = tiny("llama"), "normxlogit @ 40%"
    calls = drive.text(72).calls(31, 40, 1)
    whole, part = KVCache(model, recipe), KVCache(model, recipe)
    for cache in (whole, part):
        cache.prompt_ends(71)
        drive.run(model, cache, calls[:1])
    assert part.shared.states
    again = saving.loads(saving.dumps(part), model)
    assert drive.run(model, again, calls[1:]).kept == drive.run(model, whole, calls[1:]).kept


def test_an_empty_cache_comes_back() -> None:
    model = tiny("llama")
    again = saving.loads(saving.dumps(KVCache(model, MIXED)), model)
    goes_on(model, KVCache(model, MIXED), again)


def test_a_loaded_cache_is_a_cache_like_any_other(tmp_path: Path) -> None:
    model, cache = tiny("llama"), stored()
    data = saving.dumps(cache)
    again = saving.loads(data, model)
    assert saving.dumps(again) == data
    twin = again.fork()
    goes_on(model, cache.fork(), twin)
    again.crop(-5)
    assert again.seen == 58
    lazy = saving.loads(data, model, lazy=True)
    one, two = lazy.fork(), lazy.rows(torch.tensor([1, 0, 1]))
    assert two.kept_positions(0)[0] == cache.kept_positions(0)[1]
    goes_on(model, cache, one)
    assert lazy.nbytes == saving.loads(data, model).nbytes


def test_what_was_drafted_last_stays() -> None:
    model = tiny("llama")
    cache = KVCache(model, "knorm(every=5) @ 40%")
    cache.prompt_ends(63)
    cache.activate_past_recording()
    drive.run(model, cache, drive.text(68).calls(63, 5))
    again = saving.loads(saving.dumps(cache), model)
    assert again.seen == 68 and again.kept_positions(1) == cache.kept_positions(1)
    assert again.shared.is_drafting


class TestOrigin:
    def test_tokens_salt_and_edits_come_along(self) -> None:
        cache = stored(n=40)
        text = drive.text(40, 20)
        rows = [row[mask.bool()].tolist() for row, mask in zip(text.ids, text.mask, strict=True)]
        again = saving.loads(saving.dumps(cache, tokens=rows, salt="us", edits=("calm",)), tiny("llama"))
        assert again.origin is not None and cache.origin is None
        assert again.origin.tokens == tuple(map(tuple, rows))
        assert (again.origin.salt, again.origin.edits) == ("us", ("calm",))

    def test_tokens_of_one_row_may_be_a_list_or_a_tensor(self) -> None:
        model, cache = tiny("llama"), KVCache(tiny("llama"))
        text = drive.text(9)
        drive.run(model, cache, text.calls(9))
        files = {saving.dumps(cache, tokens=ids) for ids in (text.ids, text.ids[0], text.ids[0].tolist())}
        assert len(files) == 1

    def test_tokens_must_be_those_seen(self) -> None:
        with pytest.raises(
            InputError, match=r"the tokens given have rows of \[9\], the cache has seen \[63, 43\]"
        ):
            saving.dumps(stored(), tokens=list(range(9)))

    def test_another_salt_or_other_edits_are_refused_without_telling_the_salt(self, tmp_path: Path) -> None:
        cache, path = stored(), tmp_path / "x.kv"
        cache.save(path, salt="secret", edits=("calm",))
        for options in ({}, {"salt": "other", "edits": ("calm",)}, {"salt": "calm", "edits": ("secret",)}):
            with pytest.raises(OtherModel, match="its salt is another one") as refused:
                KVCache.load(path, tiny("llama"), **options)
            assert "secret" not in str(refused.value).replace("['secret'] asked", "")
        with pytest.raises(OtherModel, match=r"edits: \['calm'\] in the file, \[\] asked for"):
            KVCache.load(path, tiny("llama"), salt="secret")
        assert KVCache.load(path, tiny("llama"), salt="secret", edits=("calm",)).seen == 63
        assert saving.loads(path.read_bytes(), tiny("llama")).seen == 63


class TestLazy:
    def test_a_damaged_part_is_refused_in_the_forward_and_no_logits_leave(self, tmp_path: Path) -> None:
        model, cache, path = tiny("llama"), stored(), tmp_path / "x.kv"
        cache.save(path)
        place = file.Stored(file.open_uri(path).source())
        large = [name for name, part in place.places.items() if part.end - part.begin > 99]
        name = next(name for name in large if name.startswith("layers.2.segments"))
        data = bytearray(path.read_bytes())
        data[place.begin + place.places[name].begin] ^= 1
        path.write_bytes(data)
        with pytest.raises(Damaged, match=name):
            KVCache.load(path, model)
        lazy = KVCache.load(path, model, lazy=True)
        assert lazy.seen == 63 and lazy.kept_positions(1) == cache.kept_positions(1)
        calls = drive.text(65, 45).calls(63, 1, 1)[1:]
        for _ in range(2):
            with pytest.raises((Damaged, TornForward)) as refused:
                drive.run(model, lazy, calls)
        assert refused.type is TornForward
        with pytest.raises(Damaged, match=name):
            lazy.kept_positions(2)

    def test_nothing_is_read_before_it_is_touched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read, once = [], file.Stored._read
        monkeypatch.setattr(file.Stored, "_read", lambda self, name: (read.append(name), once(self, name))[1])
        cache = saving.loads(saving.dumps(stored()), tiny("llama"), lazy=True)
        assert read == []
        cache.kept_positions(1)
        assert read and all(name.startswith("layers.1.") for name in read)
        cache.nbytes
        assert len(read) == len(set(read))

    def test_a_file_that_was_replaced_meanwhile_is_still_the_one_that_was_opened(
        self, tmp_path: Path
    ) -> None:
        model, cache, path = tiny("llama"), stored(), tmp_path / "x.kv"
        cache.save(path)
        lazy = KVCache.load(path, model, lazy=True)
        stored("knorm @ 40%").save(path)
        goes_on(model, cache, lazy)


@pytest.mark.parametrize("n", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_is_not_changed_comes_back_to_the_bit(n: int) -> None:
    model, chance = tiny("llama"), random.Random(n)
    recipes = ("full", "knorm @ 40%", MIXED, "kivi(4, group=8, residual=16)", "h2o @ 20tok")
    for i in range(n):
        length = chance.randrange(21, 90)
        cache = KVCache(model, recipes[i % len(recipes)])
        drive.run(model, cache, drive.text(length, length - 14, seed=i).calls(length))
        data = saving.dumps(cache)
        again = saving.loads(data, model)
        assert saving.dumps(again) == data
        for a, b in zip(drive.snapshot(cache), drive.snapshot(again), strict=True):
            assert_same(b, a)
