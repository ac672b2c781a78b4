"""Attention over names of codewords where they lie, against what the code says they are."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import coded
from keyvalise.ops.fast import choose, decode
from keyvalise.types.written import Codewords
from tests.support.decoding import agree, expected
from tests.support.naming import drawn, read, turning

PIECES = {32: (32, 16, 8, 4, 2, 1), 64: (16, 8, 1), 128: (32, 64)}
"""Names of a vector, by its numbers: codewords of 1 to 128 numbers."""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_read_is_what_the_names_stand_for(data: st.DataObject) -> None:
    n_rows, n_heads, group, n_queries = (data.draw(st.integers(1, 3)) for _ in range(4))
    sizes = st.lists(st.integers(0, 400), min_size=n_rows * n_heads, max_size=n_rows * n_heads)
    counts = data.draw(sizes)
    n, whole = sum(counts), st.booleans()
    torch.manual_seed(n)
    dims = data.draw(st.sampled_from([(32, 32), (64, 32), (32, 128), (128, 64)]))
    keys, values = (
        drawn(
            n,
            n_heads,
            dim,
            data.draw(st.sampled_from(PIECES[dim])),
            is_sum=data.draw(whole),
            has_length=data.draw(whole),
        )
        for dim in dims
    )
    if data.draw(whole):
        width = data.draw(st.sampled_from([dims[0], dims[0] // 2]))
        turn = turning(width, is_interleaved=data.draw(whole), scaling=data.draw(st.sampled_from([1.0, 1.3])))
        keys = replace(keys, turn=(torch.randint(0, 131072, (n,), dtype=torch.int32), turn))
    bounds = list(itertools.accumulate(counts, initial=0))
    heads = torch.arange(n_rows * n_heads).repeat_interleave(torch.tensor(counts)) % n_heads
    k, v = read(keys, heads), read(values, heads)
    q = torch.randn(n_rows, n_heads * group, n_queries, dims[0])
    logw = torch.randn(n) if data.draw(whole) else None
    softcap = data.draw(st.sampled_from([None, 5.0]))
    told = {"offsets": torch.tensor(bounds, dtype=torch.int32), "scale": 0.05, "softcap": softcap}
    got = decode.coded(q, keys, values, logw=logw, **told)
    weights = torch.zeros(n) if logw is None else logw
    runs = [(k[a:b], v[a:b], weights[a:b]) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q, runs, scale=0.05, softcap=softcap))


def test_entries_that_are_picked_keep_their_length_and_position() -> None:
    torch.manual_seed(0)
    values = drawn(500, 2, 32, 8, is_sum=False, has_length=True)
    keys = drawn(500, 2, 64, 16, is_sum=False, has_length=True)
    keys = replace(keys, turn=(torch.randperm(500, dtype=torch.int32), turning(64)))
    index = torch.cat([torch.randperm(300)[:77], 300 + torch.randperm(200)[:90]])
    heads = (torch.arange(500) >= 300).long()
    k, v, bounds = read(keys, heads)[index], read(values, heads)[index], (0, 77, 167)
    q = torch.randn(1, 4, 1, 64)
    got = decode.coded(q, keys, values, offsets=torch.tensor(bounds), index=index, scale=0.1)
    runs = [(k[a:b], v[a:b], torch.zeros(b - a)) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q, runs, scale=0.1))


@pytest.mark.parametrize("position", [0, 1, 511, 4095, 65537, 131071, 1_000_000])
@pytest.mark.parametrize("is_interleaved", [False, True])
def test_keys_turn_as_the_model_turns_them(position: int, is_interleaved: bool) -> None:
    turn = turning(64, is_interleaved=is_interleaved, scaling=1.1)
    keys = Codewords(torch.zeros(1, 1, dtype=torch.uint8), torch.randn(1, 1, 256, 64).half(), 64)
    keys = replace(keys, turn=(torch.tensor([position], dtype=torch.int32), turn))
    want = read(keys, torch.zeros(1, dtype=torch.long))[0]
    # The logit of one entry alone is its lse.
    for channel in range(64):
        q = torch.zeros(1, 1, 1, 64)
        q[..., channel] = 1
        _, lse = decode.coded(q, keys, replace(keys, turn=None), offsets=torch.tensor([0, 1]), scale=1.0)
        assert abs(float(lse) - float(want[channel])) <= 3e-6


def test_two_threads_answer_like_one() -> None:
    torch.manual_seed(0)
    keys, values = (drawn(9000, 2, 64, 16, is_sum=False, has_length=False) for _ in "kv")
    keys = replace(keys, turn=(torch.arange(9000, dtype=torch.int32), turning(64)))
    q, before = torch.randn(1, 8, 1, 64), torch.get_num_threads()
    answers = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            answers.append(decode.coded(q, keys, values, offsets=torch.tensor([0, 5000, 9000]), scale=0.1))
    finally:
        torch.set_num_threads(before)
    agree(answers[1], answers[0])


def test_what_lies_otherwise_is_left_to_others() -> None:
    side = drawn(40, 2, 32, 8, is_sum=False, has_length=True)
    turned = replace(side, turn=(torch.arange(40, dtype=torch.int32), turning(32)))
    assert side.lengths is not None and turned.turn is not None
    assert decode.reads(side, side) and decode.reads(turned, side)
    positions, turn = turned.turn
    for other in (
        replace(side, codes=side.codes.short()),
        replace(side, codes=side.codes.flip(0)[::2]),
        replace(side, codes=side.codes[:, :4]),
        replace(side, codes=side.codes.to("meta")),
        replace(side, books=side.books.float()),
        replace(side, books=side.books[:, :, :16].contiguous()),
        replace(side, books=torch.randn(2, 8, 256, 3).half(), dim=24),
        replace(side, books=torch.randn(2, 8, 256, 8).half()),
        replace(side, lengths=side.lengths[:39]),
        replace(side, lengths=side.lengths.float()),
        replace(side, turn=(positions.long(), turn)),
        replace(side, turn=(positions[:39], turn)),
        replace(side, turn=(positions, turning(64))),
    ):
        assert not decode.reads(other, side)
        assert not decode.reads(side, other)
        assert coded.attend(torch.randn(1, 2, 1, 32), other, side, bounds=(0, 20, 40), scale=1.0) is None


def test_books_of_other_heads_are_refused() -> None:
    side, offsets = drawn(40, 3, 32, 8, is_sum=False, has_length=False), torch.tensor([0, 20, 40])
    with pytest.raises(ValueError, match="books of 3 heads do not fit 2"):
        decode.coded(torch.randn(1, 2, 1, 32), side, side, offsets=offsets, scale=1.0)


def test_it_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    side, q = drawn(40, 1, 32, 8, is_sum=False, has_length=False), torch.randn(1, 2, 1, 32)
    assert coded.attend(q, side, side, bounds=(0, 40), scale=1.0) is not None
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert coded.attend(q, side, side, bounds=(0, 40), scale=1.0) is None


def test_lengths_that_are_nothing_or_no_number_stay_so() -> None:
    side = drawn(2, 1, 32, 8, is_sum=False, has_length=True)
    assert side.lengths is not None
    side.lengths[:] = torch.tensor([[0.0], [math.nan]])
    out, lse = decode.coded(torch.randn(1, 1, 1, 32), side, side, offsets=torch.tensor([0, 1]), scale=1.0)
    assert not lse.any() and not out.any()
    _, lse = decode.coded(torch.randn(1, 1, 1, 32), side, side, offsets=torch.tensor([0, 2]), scale=1.0)
    assert lse.isnan().all()
