"""The compiled decode kernels against a float64 definition and against their namesakes in `ops.attend`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import attend
from keyvalise.ops.fast import decode
from tests.support.decoding import DTYPES, agree, expected, poisoned, runs_of


@pytest.mark.parametrize("n_entries", [0, 1, 7, 63, 130, 1025])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("group", "n_queries", "key_dim", "value_dim"),
    [(1, 1, 32, 32), (2, 3, 16, 80), (4, 1, 128, 128), (3, 1, 80, 16), (4, 3, 32, 128), (3, 6, 40, 24)],
)
def test_dense(
    n_entries: int, dtype: torch.dtype, group: int, n_queries: int, key_dim: int, value_dim: int
) -> None:
    torch.manual_seed(n_entries + group)
    lengths = [n_entries, n_entries // 2]
    k, v = (poisoned(2, 3, lengths, dim, dtype) for dim in (key_dim, value_dim))
    q = torch.randn(2, 3 * group, n_queries, key_dim)
    got = decode.dense(q, k, v, lengths=torch.tensor(lengths, dtype=torch.int32), scale=0.21)
    agree(got, expected(q, runs_of(k, v, lengths)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("group", "n_queries", "dim"), [(1, 3, 16), (2, 1, 128), (4, 3, 80), (4, 9, 72)])
def test_ragged(dtype: torch.dtype, group: int, n_queries: int, dim: int) -> None:
    torch.manual_seed(group)
    counts = [7, 0, 1025, 63, 0, 130, 2051, 1]
    n = sum(counts)
    k, v = (torch.full((n + 11, dim), math.nan, dtype=dtype) for _ in "kv")
    for x in (k, v):
        x[5 : 5 + n] = torch.randn(n, dim).to(dtype)
    k, v = k[5 : 5 + n], v[5 : 5 + n]
    q, logw = torch.randn(2, 4 * group, n_queries, dim), torch.randn(n)
    bounds = [0, *np.cumsum(counts).tolist()]
    spans = [slice(bounds[i], bounds[i + 1]) for i in range(8)]
    offsets = torch.tensor(bounds, dtype=torch.int32)
    got = decode.ragged(q, k, v, offsets=offsets, logw=logw, scale=0.21)
    agree(got, expected(q, [(k[s], v[s], logw[s]) for s in spans]))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_ragged(data: st.DataObject) -> None:
    n_rows, n_heads, group = (data.draw(st.integers(1, 3)) for _ in range(3))
    n_queries, dim = data.draw(st.integers(1, 8)), 8 * data.draw(st.integers(1, 5))
    counts = data.draw(st.lists(st.integers(0, 300), min_size=n_rows * n_heads, max_size=n_rows * n_heads))
    dtype, softcap = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from([None, 3.0]))
    torch.manual_seed(sum(counts))
    k, v = (torch.randn(sum(counts), dim).to(dtype) for _ in "kv")
    q, logw = torch.randn(n_rows, n_heads * group, n_queries, dim), torch.randn(sum(counts))
    bounds = [0, *np.cumsum(counts).tolist()]
    visible = torch.randint(0, 301, (n_rows, n_queries), dtype=torch.int32)
    got = decode.ragged(
        q, k, v, offsets=torch.tensor(bounds), visible=visible, logw=logw, scale=0.21, softcap=softcap
    )
    spans = [slice(bounds[i], bounds[i + 1]) for i in range(len(counts))]
    runs = [(k[s], v[s], logw[s]) for s in spans]
    agree(got, expected(q, runs, visible=visible, softcap=softcap))


@pytest.mark.parametrize("n_past", [0, 5, 127, 1025])
def test_a_causal_tail_hides_even_nan(n_past: int) -> None:
    torch.manual_seed(n_past)
    n_queries, n = 5, n_past + 5
    q, k, v = torch.randn(1, 8, n_queries, 32), torch.randn(1, 2, n, 32), torch.randn(1, 2, n, 32)
    visible = (n_past + 1 + torch.arange(n_queries, dtype=torch.int32))[None]
    want = expected(q, runs_of(k, v, [n]), visible=visible)
    agree(decode.dense(q, k, v, visible=visible, scale=0.21), want)
    k[:, :, -2:], v[:, :, -2:] = math.nan, math.inf
    got = decode.dense(q, k, v, visible=visible, scale=0.21)
    agree((got[0][:, :, :3], got[1][:, :, :3]), (want[0][:, :, :3], want[1][:, :, :3]))
    assert got[0][:, :, 3:].isnan().all()


def test_visible_may_differ_between_heads() -> None:
    q, k, v = torch.randn(2, 6, 3, 16), torch.randn(2, 3, 63, 16), torch.randn(2, 3, 63, 16)
    visible = torch.randint(0, 64, (2, 3, 3), dtype=torch.int32)
    visible[0, 1] = 0
    got = decode.dense(q, k, v, visible=visible, scale=0.21)
    for head in range(3):
        heads = slice(2 * head, 2 * head + 2)
        own = slice(head, head + 1)
        want = expected(q[:, heads], runs_of(k[:, own], v[:, own], [63, 63]), visible=visible[:, head])
        agree((got[0][:, heads], got[1][:, heads]), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n_queries", [2, 5])
def test_log_weight_of_minus_infinity_hides_even_nan(n_queries: int, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(2, 8, n_queries, 16), *(torch.randn(2, 2, 700, 16).to(dtype) for _ in "kv")
    logw = torch.randn(2, 2, 700)
    gone = torch.rand(2, 2, 700) < 0.3
    gone[1, 0], gone[0, 1, :400] = True, True
    logw[gone], k[gone], v[gone] = -math.inf, math.nan, math.nan
    got = decode.dense(q, k, v, logw=logw, scale=0.21)
    agree(got, expected(q, runs_of(k.nan_to_num(), v.nan_to_num(), [700, 700], logw)))
    assert torch.equal(got[0][1, :4], torch.zeros(4, n_queries, 16)) and torch.isneginf(got[1][1, :4]).all()


def test_log_weight_is_broadcast() -> None:
    q, k, v = torch.randn(2, 2, 1, 16), torch.randn(2, 2, 63, 16), torch.randn(2, 2, 63, 16)
    logw = torch.randn(2, 1, 63)
    got = decode.dense(q, k, v, logw=logw, scale=0.21)
    agree(got, expected(q, runs_of(k, v, [63, 63], logw.expand(2, 2, 63))))


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_soft_cap(size: float) -> None:
    q, k, v = size * torch.randn(1, 4, 1, 32), torch.randn(1, 2, 130, 32), torch.randn(1, 2, 130, 32)
    got = decode.dense(q, k, v, scale=1.0, softcap=20.0)
    agree(got, expected(q, runs_of(k, v, [130]), scale=1.0, softcap=20.0))


def test_lse_is_absolute_so_two_halves_are_the_whole() -> None:
    torch.manual_seed(3)
    q, k, v = torch.randn(1, 8, 3, 128), torch.randn(1, 2, 1025, 128) + 1.0, torch.randn(1, 2, 1025, 128)
    parts = [decode.dense(q, k[:, :, s], v[:, :, s], scale=0.21) for s in (slice(0, 640), slice(640, None))]
    agree(attend.merge(*parts), decode.dense(q, k, v, scale=0.21))


def test_extreme_logits_neither_overflow_nor_vanish() -> None:
    q, k, v = torch.ones(1, 2, 1, 16), torch.ones(1, 1, 300, 16), torch.randn(1, 1, 300, 16)
    k[:, :, 200:] *= 400.0
    k[:, :, :100] *= -400.0
    agree(decode.dense(q, k, v, scale=1.0), expected(q, runs_of(k, v, [300]), scale=1.0))


@pytest.mark.parametrize("place", [3, 129, 299])
@pytest.mark.parametrize("n_entries", [1, 300])
def test_nan_among_the_entries_is_not_swallowed(place: int, n_entries: int) -> None:
    q, k, v = torch.randn(1, 4, 1, 16), torch.randn(1, 2, n_entries, 16), torch.randn(1, 2, n_entries, 16)
    k[0, 1, min(place, n_entries - 1)] = math.nan
    out, lse = decode.dense(q, k, v, scale=0.21)
    assert out[0, 2:].isnan().all() and lse[0, 2:].isnan().all()
    assert out[0, :2].isfinite().all() and lse[0, :2].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_namesakes(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    q, k, v = (
        torch.randn(2, 8, 1, 32),
        torch.randn(2, 2, 130, 32).to(dtype),
        torch.randn(2, 2, 130, 32).to(dtype),
    )
    agree(decode.dense(q, k, v, scale=0.21), attend.dense(q, k.float(), v.float(), scale=0.21))
    bounds, flat = [0, 63, 63, 193, 520], (k.reshape(-1, 32), v.reshape(-1, 32))
    want = attend.ragged(q, flat[0].float(), flat[1].float(), bounds=bounds, scale=0.21)
    agree(decode.ragged(q, *flat, offsets=torch.tensor(bounds), scale=0.21), want)


@pytest.mark.parametrize("n_queries", [1, 16])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_16_bit_number_is_widened_exactly(dtype: torch.dtype, n_queries: int) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(dtype) if dtype is not torch.float32 else torch.randn(2**16)
    numbers = numbers[numbers.isfinite()]
    v = numbers[: len(numbers) // 8 * 8].view(1, 1, 1, -1)
    q, k = torch.zeros(1, 1, n_queries, 8), torch.zeros(1, 1, 1, 8, dtype=dtype)
    assert torch.equal(decode.dense(q, k, v, scale=1.0)[0], v.float().expand(-1, -1, n_queries, -1))
