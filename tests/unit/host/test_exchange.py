"""Content of other caches, in and out: what is kept goes on as if the rest had been masked out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from keyvalise.host import saving, unpacked
from keyvalise.store import file
from keyvalise.store.roll import Roll
from keyvalise.types.errors import HostError, InputError
from tests.support import drive, oracle
from tests.support.compare import assert_close, assert_same
from tests.support.models import tiny

MODEL = "llama"
N = 63


def stock(calls: list[drive.Call], family: str = MODEL) -> DynamicCache:
    """transformers' own cache after these calls."""
    model = tiny(family)
    keyvalise.detach(model)
    cache = DynamicCache(config=model.config)
    drive.run(model, cache, calls)
    return cache


def kept_of(text: drive.Text, seed: int = 5) -> list[list[list[Tensor]]]:
    """Columns [layer][row][head] that another tool has kept, another number in every head, in any order."""
    chance = torch.Generator().manual_seed(seed)

    def some(pad: int) -> Tensor:
        n = int(torch.randint(3, 20, (1,), generator=chance))
        return pad + torch.randperm(N - pad, generator=chance)[:n]

    return [[[some(pad) for _ in range(4)] for pad in text.pads] for _ in range(3)]


def taken(cache: DynamicCache, columns: list[list[list[Tensor]]]) -> tuple[list[Any], list[Any]]:
    """keys and values at these columns, [layer][row][head]."""
    both = []
    for name in ("keys", "values"):
        layers = [getattr(layer, name) for layer in cache.layers]
        both.append(
            [
                [[layers[i][b, h, at] for h, at in enumerate(heads)] for b, heads in enumerate(rows)]
                for i, rows in enumerate(columns)
            ]
        )
    return both[0], both[1]


class TestKept:
    def test_it_goes_on_as_if_the_rest_had_been_masked_out(self) -> None:
        model, text = tiny(MODEL), drive.text(N + 6, N - 17)
        calls = text.calls(N, 3, 1, 1, 1)
        columns = kept_of(text)
        keys, values = taken(stock(calls[:1]), columns)
        positions = [
            [[at - pad for at in heads] for heads, pad in zip(rows, text.pads, strict=True)]
            for rows in columns
        ]
        seen = [N - pad for pad in text.pads]
        cache = KVCache.from_kept(model, keys, values, positions, seen=seen)
        assert cache.seen == N
        want = {
            i: [[sorted(at.tolist()) for at in heads] for heads in rows] for i, rows in enumerate(positions)
        }
        assert drive.held(cache) == want
        nothing = oracle.Before({i: [] for i in range(3)}, dict.fromkeys(range(3)))
        got, before = oracle.through(model, cache, calls[1:])
        masked = oracle.masked(model, calls, [nothing, *before])
        for i, (call, a, b) in enumerate(zip(calls[1:], got, masked[1:], strict=True)):
            assert_close(a[call.real], b[call.real], "logits_fp32", what=f"call {i}")

    def test_padded_tensors_say_the_same_as_lists(self) -> None:
        model, text = tiny(MODEL), drive.text(N + 2)
        calls = text.calls(N, 1, 1)
        columns = kept_of(text)
        keys, values = taken(stock(calls[:1]), columns)
        lists = KVCache.from_kept(model, keys, values, columns, seen=N)

        def padded(layer: list[list[Tensor]], fill: float) -> Tensor:
            width = max(len(head) for row in layer for head in row) + 2
            heads = [
                torch.cat([head, head.new_full((width - len(head), *head.shape[1:]), fill)])
                for row in layer
                for head in row
            ]
            return torch.stack(heads).unflatten(0, (len(layer), -1))

        dense = KVCache.from_kept(
            model,
            [padded(layer, float("nan")) for layer in keys],
            [padded(layer, float("nan")) for layer in values],
            [padded(layer, -1) for layer in columns],
            seen=N,
        )
        a, b = drive.run(model, lists, calls[1:]), drive.run(model, dense, calls[1:])
        assert a.kept == b.kept and all(map(torch.equal, a.logits, b.logits))

    def test_everything_kept_is_the_full_cache(self) -> None:
        model, calls = tiny(MODEL), drive.text(N + 10).calls(N, 8, 1, 1)
        own = stock(calls[:1])
        everything = torch.arange(N).expand(1, 4, N)
        keys, values = ([getattr(layer, x) for layer in own.layers] for x in ("keys", "values"))
        cache = KVCache.from_kept(model, keys, values, [everything] * 3, seen=N, recipe="knorm @ 30tok")
        whole = KVCache.from_dynamic(own, model)
        assert cache.nbytes <= whole.nbytes and cache.kept_positions(2) == whole.kept_positions(2)
        first = drive.run(model, cache, calls[1:2])
        assert_close(first.logits[0], drive.run(model, whole, calls[1:2]).logits[0], "logits_fp32")
        assert drive.counts(first.kept[0]) == [30] * 12  # the recipe acts where the next prompt ends

    def test_a_file_unpacked_is_a_cache_again(self, tmp_path: Path) -> None:
        model, text = tiny(MODEL), drive.text(N + 3, N - 20)
        calls = text.calls(N, 1, 1, 1)
        cache = KVCache(model, "adakv(window=7) > adaptive @ 40%")
        drive.run(model, cache, calls[:1])
        cache.save(tmp_path / "x.kv")
        parts = unpacked.dense(file.Stored(file.open_uri(tmp_path / "x.kv").source()))
        given = [[parts[f"layers.{i}.{x}"] for i in range(3)] for x in ("keys", "values", "positions")]
        again = KVCache.from_kept(model, *given, seen=[N - pad for pad in text.pads])
        a, b = drive.run(model, cache, calls[1:]), drive.run(model, again, calls[1:])
        assert a.kept == b.kept
        for x, y in zip(a.logits, b.logits, strict=True):
            assert_close(y, x, "logits_fp32")

    def test_codes_that_read_what_was_trained_are_unpacked_with_their_model(self) -> None:
        cache = KVCache(tiny(MODEL), "pq(residual=8)")
        drive.run(tiny(MODEL), cache, drive.text(N).calls(N))
        stored = file.opened(saving.dumps(cache))
        with pytest.raises(InputError, match="can be read with its model alone; name the model"):
            unpacked.dense(stored)
        parts = unpacked.dense(stored, tiny(MODEL))
        for i, layer in cache.shared.layers.items():
            assert layer.memory is not None
            entries = Roll.of(layer.memory).entries
            assert torch.equal(parts[f"layers.{i}.keys"], entries.keys())
            assert torch.equal(parts[f"layers.{i}.positions"], entries.ordinals)

    def test_what_does_not_fit_is_refused(self) -> None:
        model, calls = tiny(MODEL), drive.text(N).calls(N)
        own = stock(calls)
        keys, values = ([getattr(layer, x) for layer in own.layers] for x in ("keys", "values"))
        at = [torch.arange(N).expand(1, 4, N)] * 3

        def refused(words: str, keys: Any = keys, values: Any = values, at: Any = at, seen: Any = N) -> None:
            with pytest.raises(InputError, match=words):
                KVCache.from_kept(model, keys, values, at, seen=seen)

        refused("keys are given for 2 layers, the model has 3", keys=keys[:2])
        refused("layer 0: the model has 4 kv heads, got", keys=[k[:, :2] for k in keys])
        refused(
            "layer 0: keys and values have 16 and 16 numbers, got 8 and 16", keys=[k[..., :8] for k in keys]
        )
        refused(r"keys \[T, D\], values \[T, D\] and positions \[T\], got", keys=[k[:, :, 1:] for k in keys])
        refused("positions of a head must differ and lie below 60", seen=60)
        refused("positions of a head must differ", at=[torch.zeros(1, 4, N, dtype=torch.long)] * 3)
        refused("must have as many rows, got 1 of keys", seen=[N, N])
        hybrid = tiny("gemma3")
        with pytest.raises(InputError, match=r"layer 0 is a Dynamic.* of the model's own"):
            KVCache.from_kept(hybrid, keys, values, at, seen=N)
        own = stock(calls, "bloom")
        keys, values = ([getattr(layer, x)[:, :, 1:] for layer in own.layers] for x in ("keys", "values"))
        missing = [torch.arange(1, N).expand(1, 8, N - 1)] * 3
        with pytest.raises(InputError, match="computes its own masks, so tokens cannot be missing"):
            KVCache.from_kept(tiny("bloom"), keys, values, missing, seen=N)


class TestDynamic:
    @pytest.mark.parametrize("family", ["llama", "qwen3_next", "gemma3", "deepseek_v3", "bloom"])
    def test_there_and_back(self, family: str) -> None:
        model, calls = tiny(family), drive.text(N + 3).calls(N, 1, 1, 1)
        cache = KVCache(model)
        drive.run(model, cache, calls[:1])
        own = cache.to_dynamic()
        assert own.get_seq_length() == N and type(own) is DynamicCache
        ours = drive.run(model, cache, calls[1:])
        keyvalise.detach(model)
        theirs = drive.run(model, own, calls[1:])
        for a, b in zip(ours.logits, theirs.logits, strict=True):
            assert_close(a, b, "logits_fp32")
        again = KVCache.from_dynamic(own, model)
        assert drive.held(again) == drive.held(cache)

    def test_padded_rows_need_their_mask(self) -> None:
        model, calls = tiny(MODEL), drive.text(N + 2, N - 20).calls(N, 1, 1)
        cache = KVCache(model, "int8(residual=8, group=8)")
        drive.run(model, cache, calls[:1])
        with pytest.raises(
            InputError, match="a row has seen 41 tokens in 63 columns; pass the attention mask"
        ):
            cache.to_dynamic()
        with pytest.raises(InputError, match=r"must mark \[63, 41\] tokens in 63 columns"):
            cache.to_dynamic(torch.ones(2, N))
        own = cache.to_dynamic(calls[0].mask)
        ours = drive.run(model, cache, calls[1:])
        keyvalise.detach(model)
        theirs = drive.run(model, own, calls[1:])
        for a, b in zip(ours.logits, theirs.logits, strict=True):
            assert_close(a, b, "logits_coded")

    @pytest.mark.parametrize(
        ("recipe", "words"),
        [
            ("knorm @ 13tok", "layer 0 holds 13 of the 63 tokens of row 0"),
            ("adakv(window=7) @ 40%", "layer 0 holds [0-9]+ to [0-9]+ of the 63 tokens of row 0"),
        ],
    )
    def test_what_was_dropped_cannot_be_said(self, recipe: str, words: str) -> None:
        cache = KVCache(tiny(MODEL), recipe)
        drive.run(tiny(MODEL), cache, drive.text(N).calls(N))
        with pytest.raises(HostError, match=words):
            cache.to_dynamic()

    def test_an_empty_cache_is_an_empty_cache(self) -> None:
        assert KVCache(tiny(MODEL)).to_dynamic().get_seq_length() == 0

    def test_nothing_is_shared(self) -> None:
        model, calls = tiny(MODEL), drive.text(N + 1).calls(N, 1)
        cache, alone = KVCache(model), KVCache(model)
        for one in (cache, alone):
            drive.run(model, one, calls[:1])
        own = cache.to_dynamic()
        for layer in own.layers:
            layer.keys.fill_(7)
        assert_same(
            drive.run(model, cache, calls[1:]).logits[0], drive.run(model, alone, calls[1:]).logits[0]
        )
