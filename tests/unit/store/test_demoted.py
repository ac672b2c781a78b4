"""Losers in a code of their own: read like others, counted in bytes, taken along by crops and rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keyvalise import KVCache, Recipe
from keyvalise.recipe.compose import compose
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.types.data import Env
from keyvalise.types.errors import RecipeError, UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import HOST_GIVES
from tests.support import drive, walk
from tests.support.compare import assert_close
from tests.support.models import tiny
from tests.support.segments import PlainEncode, Runs, queries, reference

WIDTHS = (61, 1, 1, 1, 1, 1, 1)


def demoted(cache: KVCache) -> list[Demoted]:
    memories = [layer.memory for layer in cache.shared.layers.values()]
    return [segment for memory in memories for segment in memory.segments if isinstance(segment, Demoted)]


def test_everything_stays_and_the_chosen_stay_raw() -> None:
    cache, dropping = (
        KVCache(tiny("llama"), f"at prompt, every 1 in decode: recency > {act} @ 40%")
        for act in ("demote(int8, balance=false, recent=5)", "drop(recent=5)")
    )
    drive.run(tiny("llama"), cache, drive.text(67, 50).calls(*WIDTHS))
    drive.run(tiny("llama"), dropping, drive.text(67, 50).calls(*WIDTHS))
    for layer in range(3):
        for row, n in zip(cache.kept_positions(layer), (67, 50), strict=True):
            assert row == [list(range(n))] * 4
    assert len(demoted(cache)) == 3
    for part in demoted(cache):
        ordinals = part.held.entries().ordinals
        assert int(ordinals.max()) < 67 - 5, "the newest are never demoted"
    assert cache.nbytes == walk.held_bytes(cache, tiny("llama")) == cache.ledger().nbytes


def test_read_as_if_nothing_had_been_demoted_up_to_the_code() -> None:
    model = tiny("llama")
    want = drive.run(model, KVCache(model), drive.text(67, 50).calls(*WIDTHS)).logits
    errors = {}
    for code in ("int8", "int4", "int2"):
        cache = KVCache(model, f"at prompt, every 1 in decode: recency > demote({code}) @ 75%")
        got = drive.run(model, cache, drive.text(67, 50).calls(*WIDTHS)).logits
        errors[code] = float((torch.cat(got[1:], 1) - torch.cat(want[1:], 1)).norm())
    assert errors["int8"] < errors["int4"] / 4 < errors["int2"] / 4
    assert errors["int8"] < 0.02 * float(torch.cat(want[1:], 1).norm())


def test_balance_changes_no_product() -> None:
    geometry = Geometry(1, 8, 4, 10, 7, torch.float32, 0.3)
    runs, asked = Runs.random(geometry, [[5, 9, 0, 3], [2, 4, 6, 1]]), queries(geometry, 2, 3)
    env, flat = Env(0, geometry), runs.flat()
    balance = (torch.rand(2, 4, 10, generator=torch.Generator().manual_seed(1)) + 0.5).half()
    homes = torch.arange(8).repeat_interleave(torch.tensor(flat.counts))
    loud = replace(flat, keys=flat.keys * balance.float().flatten(0, 1)[homes])
    got = Demoted(Coded.of(PlainEncode(), env, loud), balance, "demote").attend(asked)[0]  # type: ignore[arg-type]
    want = reference(asked.q, runs)
    assert_close(got.out, want.out, "logits_fp32")
    assert_close(got.lse, want.lse, "logits_fp32")


def test_a_balance_stays_as_it_was_first_found() -> None:
    model = tiny("llama")
    cache = KVCache(model, "at prompt, every 1 in decode: recency > demote(int4) @ 40%")
    calls = drive.text(67, 50).calls(*WIDTHS)
    drive.run(model, cache, calls[:1])
    first = [part.balance for part in demoted(cache)]
    drive.run(model, cache, calls[1:])
    assert all(torch.equal(a, b.balance) for a, b in zip(first, demoted(cache), strict=True))
    assert all(float(a.std()) > 0 for a in first)


def test_a_crop_takes_demoted_tokens_back_too() -> None:
    model = tiny("llama")
    cache = KVCache(model, "at prompt: knorm > demote(int4) @ 40%")
    drive.run(model, cache, drive.text(67, 50).calls(61))
    cache.crop(-20)
    for layer in range(3):
        for row, n in zip(cache.kept_positions(layer), (41, 24), strict=True):
            assert all(max(head) < n for head in row)


def test_rows_take_their_demoted_entries_along() -> None:
    model = tiny("llama")
    cache = KVCache(model, "at prompt: knorm > demote(int4) @ 40%")
    calls = drive.text(67, 50).calls(61, 1)
    drive.run(model, cache, calls[:1])
    before = [cache.kept_positions(layer) for layer in range(3)]
    cache.batch_select_indices(torch.tensor([1, 0, 1]))
    for layer in range(3):
        assert cache.kept_positions(layer) == [before[layer][i] for i in (1, 0, 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recency > demote(kivi) @ 50%", "kivi writes groups"),
        ("recency > demote(snapkv) @ 50%", "a code in the words of a recipe"),
        ("recency > demote('bogus') @ 50%", "unknown recipe or part 'bogus'"),
        ("recency > demote(int8) @ 5%", "needs at least"),
        ("recency > demote(int8) @ 50%; int4", "needs a smaller code for losers"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        KVCache(tiny("llama"), f"at prompt: {text}")


@pytest.mark.parametrize("chain", ["recency > demote", "recency > sample", "recency > compensate"])
def test_models_that_attend_by_themselves_cannot_read_it(chain: str) -> None:
    geometry = Geometry(2, 4, 1, 32, 16, torch.float32, 0.2)
    with pytest.raises(UnmetNeed):
        compose(Recipe.parse(f"at prompt: {chain} @ 60%"), geometry, HOST_GIVES - {"lse"})


def test_coded_keepers_that_lose_are_written_anew() -> None:
    model = tiny("llama")
    cache = KVCache(model, "at prompt, every 3 in decode: recency > demote(int2) @ 60%; int8(residual=4)")
    calls = drive.text(67, 50).calls(*WIDTHS)
    logits = drive.run(model, cache, calls).logits
    assert all(bool(out[call.real].isfinite().all()) for out, call in zip(logits, calls, strict=True))
    for layer in range(3):
        for row, n in zip(cache.kept_positions(layer), (67, 50), strict=True):
            assert row == [list(range(n))] * 4
    assert cache.nbytes == walk.held_bytes(cache, model) == cache.ledger().nbytes
