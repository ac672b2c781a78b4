"""Compiled attention over entries that are picked one by one, against copies of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import attend
from keyvalise.ops.fast import decode
from keyvalise.types.written import Integers
from tests.support.decoding import DTYPES, agree, expected


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_entries_in_any_order(data: st.DataObject) -> None:
    n_rows, n_heads, group = (data.draw(st.integers(1, 3)) for _ in range(3))
    n_queries, dim = data.draw(st.integers(1, 3)), 8 * data.draw(st.integers(1, 5))
    counts = data.draw(st.lists(st.integers(0, 400), min_size=n_rows * n_heads, max_size=n_rows * n_heads))
    dtype, softcap = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from([None, 3.0]))
    is_weighed = data.draw(st.booleans())
    torch.manual_seed(sum(counts))
    n_stored = data.draw(st.integers(1, 3000))
    k, v = (torch.full((n_stored, dim), math.nan, dtype=dtype) for _ in "kv")
    index = torch.randint(0, n_stored, (sum(counts),))
    # What is not picked is not even looked at.
    k[index], v[index] = torch.randn(sum(counts), dim).to(dtype), torch.randn(sum(counts), dim).to(dtype)
    q, logw = torch.randn(n_rows, n_heads * group, n_queries, dim), torch.randn(n_stored)
    weights = logw if is_weighed else None
    bounds = [0, *np.cumsum(counts).tolist()]
    told: dict[str, Any] = {"logw": weights, "scale": 0.21, "softcap": softcap}
    got = decode.ragged(q, k, v, offsets=torch.tensor(bounds), index=index, **told)
    spans = [index[bounds[i] : bounds[i + 1]] for i in range(len(counts))]
    want = [(k[own], v[own], logw[own] * is_weighed) for own in spans]
    agree(got, expected(q, want, softcap=softcap))
    agree(attend.ragged(q, k, v, bounds=bounds, index=index, **told), got)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_threads_and_blocks(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    k, v = torch.randn(9000, 64).to(dtype), torch.randn(9000, 32).to(dtype)
    index, q = torch.randperm(9000)[:7001], torch.randn(1, 8, 1, 64)
    bounds = [0, 5000, 7001]
    got = decode.ragged(q, k, v, offsets=torch.tensor(bounds), index=index, scale=0.2)
    copied = decode.ragged(q, k[index], v[index], offsets=torch.tensor(bounds), scale=0.2)
    agree(got, copied)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("is_listed", [True, False])
def test_integers(bits: int, is_listed: bool) -> None:
    torch.manual_seed(bits)
    n, dim, run = 1500, 64, 20
    rows = torch.randint(0, 75, (n,), dtype=torch.int32) if is_listed else None

    def side() -> Integers:
        codes = torch.randint(0, 256, (n, dim * bits // 8), dtype=torch.uint8)
        return Integers(codes, torch.randn(75, 4, 2).half(), bits, dim, run, rows)

    keys, values, q = side(), side(), torch.randn(2, 4, 1, dim)
    whole = [0, 400, 700, 900, n]
    counts, logw = [130, 0, 257, 1], torch.randn(n)
    spans = zip(itertools.pairwise(whole), counts, strict=True)
    index = torch.cat([torch.randint(a, b, (m,)) for (a, b), m in spans])
    bounds = [0, *np.cumsum(counts).tolist()]
    got = decode.coded(q, keys, values, offsets=torch.tensor(bounds), index=index, logw=logw, scale=0.02)
    # Everything that is not picked weighs nothing.
    for i, (begin, end) in enumerate(itertools.pairwise(bounds)):
        own, n_times = index[begin:end].unique(return_counts=True)
        weights = torch.full((n,), -math.inf)
        weights[own] = logw[own] + n_times.log()
        all_of_one = torch.tensor([0, 0, 0, 0, 0])
        all_of_one[i + 1 :] = n
        row, heads = i // 2, slice(2 * (i % 2), 2 * (i % 2) + 2)
        want = decode.coded(q, keys, values, offsets=all_of_one, logw=weights, scale=0.02)
        agree((got[0][row, heads], got[1][row, heads]), (want[0][row, heads], want[1][row, heads]))
