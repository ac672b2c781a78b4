"""Whole tokens in code: each layer reads what the one below has read, whatever calls, rows and crops did."""

from __future__ import annotations

import pytest
import torch

from keyvalise import KVCache
from keyvalise.host import saving, unpacked
from keyvalise.store import streamed
from keyvalise.store.tokens import Tokens
from keyvalise.types.errors import InputError, RecipeError
from tests.support import drive, profiles, walk
from tests.support.compare import assert_close
from tests.support.models import tiny

WIDTHS = (61, 1, 1, 1, 1, 1)


def model() -> torch.nn.Module:
    found: torch.nn.Module = profiles.give(tiny("llama", torch.float64))
    return found


def segments(cache: KVCache) -> list[Tokens]:
    memories = [layer.memory for layer in cache.shared.layers.values()]
    return [segment for memory in memories for segment in memory.segments if isinstance(segment, Tokens)]


def test_every_layer_holds_the_same_tokens_in_code() -> None:
    cache = KVCache(model(), "aquakv(residual=8)")
    drive.run(model(), cache, drive.text(66, 41).calls(*WIDTHS))
    parts = segments(cache)
    assert len(parts) == 3 and len({part.counts for part in parts}) == 1
    assert all(n >= 33 for n in parts[0].counts[:4])
    for layer in range(3):
        for row, n in zip(cache.kept_positions(layer), (66, 41), strict=True):
            assert row == [list(range(n))] * 4
    single = profiles.give(tiny("llama"))
    cache = KVCache(single, "aquakv(residual=8)")
    drive.run(single, cache, drive.text(66, 41).calls(*WIDTHS))
    assert cache.nbytes == walk.held_bytes(cache, single) == cache.ledger().nbytes


def test_codes_do_not_depend_on_how_tokens_came() -> None:
    codes = []
    for widths in ((61,), (20, 20, 21), (60, 1)):
        cache = KVCache(model(), "aquakv(residual=0) @ 60%")
        drive.run(model(), cache, drive.text(61).calls(*widths))
        codes.append([part.codes for part in segments(cache)])
    whole = codes[0]
    for layer in range(3):
        # What came later attends to codes; the lowest layer's keys do not depend on that.
        for other in codes[1:]:
            n = min(len(x["keys"]) for x in (whole[0], other[0]))
            assert torch.equal(whole[0]["keys"][:n], other[0]["keys"][:n])
        assert whole[layer]["keys"].shape == codes[2][layer]["keys"].shape


def test_predictors_of_zero_leave_each_layer_to_itself() -> None:
    model_ = model()
    cache = KVCache(model_, "aquakv(residual=0)")
    fixed = cache.shared.fixed["aquakv"]
    cache.shared.fixed = {**cache.shared.fixed, "aquakv": {k: torch.zeros_like(v) for k, v in fixed.items()}}
    drive.run(model_, cache, drive.text(61).calls(61))
    part = segments(cache)[2]
    fives = torch.full((len(part.codes["keys"]), 4, 16), 5.0)
    below = (fives, fives)
    for a, b in zip(
        part.codec.read(part.env, part.codes, None), part.codec.read(part.env, part.codes, below), strict=True
    ):
        assert torch.equal(a, b)


def test_fewer_tokens_than_stay_raw_are_left_alone() -> None:
    model_ = model()
    want = drive.run(model_, KVCache(model_), drive.text(66, 41).calls(*WIDTHS)).logits
    got = drive.run(model_, KVCache(model_, "aquakv(residual=128)"), drive.text(66, 41).calls(*WIDTHS)).logits
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, "logits_fp32")


def test_rows_crops_and_forks() -> None:
    model_, calls = model(), drive.text(66, 41).calls(*WIDTHS)
    straight = drive.run(model_, KVCache(model_, "aquakv(residual=4)"), calls)
    cache = KVCache(model_, "aquakv(residual=4)")
    drive.run(model_, cache, calls[:1])
    twin = cache.fork()
    drive.run(model_, twin, drive.text(66, 41, seed=3).calls(*WIDTHS)[1:3])
    for one in (cache, cache.rows(torch.tensor([0, 1]))):
        for call, logits in zip(calls[1:3], straight.logits[1:3], strict=True):
            assert_close(drive.run(model_, one.fork(), [call]).logits[0], logits, "logits_coded")
            break
    cache.crop(-20)
    for layer in range(3):
        for row, n in zip(cache.kept_positions(layer), (41, 16), strict=True):
            assert row == [list(range(n))] * 4
    turned = cache.rows(torch.tensor([1, 0, 1]))
    assert [len(row[0]) for row in turned.kept_positions(1)] == [16, 41, 16]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("snapkv > aquakv @ 20%", "aquakv needs sets:model"),
        ("streaming > adaptive > aquakv @ 20%", "aquakv needs sets:model"),
        ("streaming > aquakv @ 20% on 1..", "needs sets:model|needs all layers"),
        ("aquakv on 1..", "aquakv needs all layers"),
        ("hadamard > aquakv", "hadamard needs a code that writes every head by itself"),
        ("at prompt: recency > demote(aquakv) @ 50%", "a code that writes every head and layer by itself"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        KVCache(model(), text)


@pytest.mark.parametrize("recipe", ["aquakv(residual=8)", "streaming(sinks=2) > aquakv(residual=8) @ 30%"])
def test_what_it_stands_for_can_be_taken_out(recipe: str) -> None:
    cache, text = KVCache(model(), recipe), drive.text(66, 41)
    calls = text.calls(61, 1, 1, 1, 1, 1)
    drive.run(model(), cache, calls[:-1])
    stored = streamed.opened(saving.dumps(cache))
    with pytest.raises(InputError, match="name the model"):
        unpacked.dense(stored)
    parts = unpacked.dense(stored, model())
    given = [[parts[f"layers.{i}.{x}"] for i in range(3)] for x in ("keys", "values", "positions")]
    again = KVCache.from_kept(model(), *given, seen=[65, 40])
    assert drive.held(again) == drive.held(cache)
    a, b = (drive.run(model(), one, calls[-1:]).logits[0] for one in (cache, again))
    assert_close(a, b, "logits_coded")


def test_everything_of_it_becomes_a_dynamic_cache() -> None:
    cache, calls = KVCache(model(), "aquakv(residual=8)"), drive.text(62).calls(61, 1)
    drive.run(model(), cache, calls[:1])
    own = cache.to_dynamic()
    a, b = (drive.run(model(), one, calls[1:]).logits[0] for one in (cache, own))
    assert_close(a, b, "logits_coded")
