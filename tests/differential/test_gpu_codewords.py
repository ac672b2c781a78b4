"""Attention over names of codewords where they lie, on a device, against what the names stand for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import coded
from keyvalise.ops.fast.gpu import decode, legible
from keyvalise.types.written import Codewords
from tests.differential.test_gpu_start import DEVICES, ready
from tests.support.decoding import agree, expected
from tests.support.naming import drawn, read, turning

on_each = pytest.mark.parametrize("device", DEVICES)


def moved(side: Codewords, to: torch.device) -> Codewords:
    """The same names elsewhere."""
    lengths, turn = None if side.lengths is None else side.lengths.to(to), None
    if side.turn is not None:
        positions, rope = side.turn
        turn = positions.to(to), replace(rope, frequencies=rope.frequencies.to(to))
    return replace(side, codes=side.codes.to(to), books=side.books.to(to), lengths=lengths, turn=turn)


def both(
    counts: list[int], group: int, keys: Codewords, values: Codewords, to: torch.device, **told: Any
) -> tuple[Any, Any]:
    """What the kernel answers over runs of a row's heads, and what it should."""
    n_heads, n = len(counts), sum(counts)
    heads = torch.arange(n_heads).repeat_interleave(torch.tensor(counts))
    k, v = read(keys, heads), read(values, heads)
    bounds = list(itertools.accumulate(counts, initial=0))
    q, logw = torch.randn(1, n_heads * group, 1, keys.dim), torch.randn(n)
    offsets = torch.tensor(bounds, device=to)
    got = decode.coded(
        q.to(to), moved(keys, to), moved(values, to), offsets=offsets, logw=logw.to(to), scale=0.05, **told
    )
    runs = [(k[a:b], v[a:b], logw[a:b]) for a, b in itertools.pairwise(bounds)]
    return got, expected(q, runs, scale=0.05, **told)


@on_each
@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize(
    ("group", "dims", "pieces", "width"),
    [
        (1, (32, 32), (8, 4), 32),
        (2, (64, 32), (64, 1), 64),
        (4, (32, 64), (4, 32), 16),
        (8, (24, 40), (3, 5), 24),
        (1, (20, 33), (20, 11), 12),
        (2, (128, 128), (16, 16), 128),
    ],
)
def test_codewords_side_by_side(
    device: str,
    group: int,
    dims: tuple[int, int],
    pieces: tuple[int, int],
    width: int,
    is_interleaved: bool,
) -> None:
    to, counts = ready(device), [63, 0, 7, 1]
    torch.manual_seed(group)
    keys, values = (
        drawn(sum(counts), 4, dim, m, is_sum=False, has_length=dim != 32)
        for dim, m in zip(dims, pieces, strict=True)
    )
    places = torch.randint(0, 131072, (sum(counts),), dtype=torch.int32)
    keys = replace(keys, turn=(places, turning(width, is_interleaved=is_interleaved, scaling=1.2)))
    agree(*both(counts, group, keys, values, to, softcap=5.0))


@on_each
@pytest.mark.parametrize(("group", "dims"), [(1, (32, 32)), (4, (24, 64)), (8, (64, 20))])
def test_codewords_that_are_added_up(device: str, group: int, dims: tuple[int, int]) -> None:
    to, counts = ready(device), [40, 3]
    torch.manual_seed(group)
    keys, values = (
        drawn(43, 2, dim, m, is_sum=True, has_length=dim == 64) for dim, m in zip(dims, (3, 1), strict=True)
    )
    keys = replace(keys, turn=(torch.arange(43, dtype=torch.int32), turning(dims[0] - 4)))
    agree(*both(counts, group, keys, values, to))


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_what_is_read_is_what_the_names_stand_for(data: st.DataObject) -> None:
    to, whole = ready("cpu"), st.booleans()
    counts = data.draw(st.lists(st.integers(0, 80), min_size=1, max_size=3))
    torch.manual_seed(sum(counts))
    keys, values = (
        drawn(
            sum(counts),
            len(counts),
            32,
            data.draw(st.sampled_from([1, 4, 16])),
            is_sum=data.draw(whole),
            has_length=data.draw(whole),
        )
        for _ in "kv"
    )
    if data.draw(whole):
        places = torch.randint(0, 4096, (sum(counts),), dtype=torch.int32)
        keys = replace(keys, turn=(places, turning(data.draw(st.sampled_from([8, 20, 32])))))
    agree(*both(counts, data.draw(st.integers(1, 5)), keys, values, to))


@on_each
@pytest.mark.parametrize("position", [0, 1, 511, 65537, 131071, 1_000_000])
def test_keys_turn_as_the_model_turns_them(device: str, position: int) -> None:
    to, turn = ready(device), turning(64, scaling=1.1)
    keys = Codewords(torch.zeros(1, 1, dtype=torch.uint8), torch.randn(1, 1, 256, 64).half(), 64)
    keys = replace(keys, turn=(torch.tensor([position], dtype=torch.int32), turn))
    want = read(keys, torch.zeros(1, dtype=torch.long))[0]
    # The logit of one entry alone is its lse; one query for every channel.
    q = torch.eye(64).view(1, 64, 1, 64)
    values, offsets = moved(replace(keys, turn=None), to), torch.tensor([0, 1], device=to)
    _, lse = decode.coded(q.to(to), moved(keys, to), values, offsets=offsets, scale=1.0)
    assert (lse[0, :, 0].cpu() - want).abs().max() <= 3e-6


@on_each
def test_poison_behind_the_runs_is_not_read(device: str) -> None:
    to = ready(device)
    keys, values = (drawn(40, 1, 32, 8, is_sum=False, has_length=True) for _ in "kv")
    for side in (keys, values):
        assert side.lengths is not None
        side.lengths[30:] = torch.nan
    k, v = (read(side, torch.zeros(40, dtype=torch.long))[:30] for side in (keys, values))
    q, offsets = torch.randn(1, 4, 1, 32), torch.tensor([0, 30], device=to)
    got = decode.coded(q.to(to), moved(keys, to), moved(values, to), offsets=offsets, scale=0.21)
    agree(got, expected(q, [(k, v, torch.zeros(30))]))


def test_what_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "flaw_at", lambda *_: None)
    side = drawn(40, 2, 32, 8, is_sum=False, has_length=True)
    assert side.lengths is not None and decode.reads(side, side)
    places, turn = torch.arange(40, dtype=torch.int32), turning(32)
    for other, message in (
        (replace(side, codes=side.codes.flip(0)[::2], lengths=None), "contiguous"),
        (replace(side, codes=side.codes.short()), "must be bytes"),
        (replace(side, codes=side.codes[:, :4]), "books must be float16"),
        (replace(side, books=side.books.float()), "books must be float16"),
        (replace(side, books=side.books[:, :, :16].contiguous()), "8, 256"),
        (replace(side, dim=24), "8 codewords of 4 numbers do not make 24"),
        (replace(side, dim=1024), "1 to 512"),
        (replace(side, lengths=side.lengths[:39]), "lengths"),
        (replace(side, turn=(places.long(), turn)), "positions must be int32"),
        (replace(side, turn=(places, turning(64))), "no more than there is"),
    ):
        assert message in str(legible.flaw_of(other))
        assert not decode.reads(other, side) and not decode.reads(side, other)
        with pytest.raises(ValueError, match=message):
            decode.coded(torch.randn(1, 2, 1, 32), side, other, offsets=torch.tensor([0, 20, 40]), scale=1.0)
    with pytest.raises(ValueError, match="books of 2 heads do not fit 1"):
        decode.coded(torch.randn(1, 1, 1, 32), side, side, offsets=torch.tensor([0, 40]), scale=1.0)


@pytest.mark.gpu
def test_names_on_a_device_are_read_where_they_lie() -> None:
    to = ready("cuda")
    side = moved(drawn(40, 1, 32, 8, is_sum=False, has_length=False), to)
    assert (
        coded.attend(torch.randn(1, 2, 1, 32, device=to), side, side, bounds=(0, 40), scale=1.0) is not None
    )
