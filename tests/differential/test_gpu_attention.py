"""Attention on a device against a float64 definition and against its namesakes in `ops.attend`."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import attend
from keyvalise.ops.fast.gpu import decode, sizes
from tests.differential.test_gpu_start import DEVICES, ready
from tests.support.decoding import DTYPES, agree, expected, poisoned, runs_of

on_each = pytest.mark.parametrize("device", DEVICES)
F32, BF16, F16 = DTYPES


@on_each
@pytest.mark.parametrize(
    ("n_entries", "stored", "asked", "group", "n_queries", "dims"),
    [
        (7, F32, F32, 1, 1, (32, 32)),
        (63, F32, F32, 2, 3, (16, 80)),
        (130, F32, F32, 4, 1, (128, 128)),
        (63, F16, F32, 4, 2, (80, 16)),
        (130, BF16, F32, 2, 1, (32, 20)),
        (7, F16, F16, 4, 3, (7, 33)),
        (63, BF16, BF16, 1, 1, (128, 128)),
        (130, F16, F16, 2, 1, (20, 80)),
        (1, BF16, BF16, 4, 1, (32, 32)),
    ],
)
def test_dense(
    device: str,
    n_entries: int,
    stored: torch.dtype,
    asked: torch.dtype,
    group: int,
    n_queries: int,
    dims: tuple[int, int],
) -> None:
    to = ready(device)
    torch.manual_seed(n_entries + group)
    lengths = [n_entries, n_entries // 2]
    k, v = (poisoned(2, 2, lengths, dim, stored) for dim in dims)
    q = torch.randn(2, 2 * group, n_queries, dims[0]).to(asked)
    held = torch.tensor(lengths, dtype=torch.int32)
    got = decode.dense(q.to(to), k.to(to), v.to(to), lengths=held.to(to), scale=0.21)
    agree(got, expected(q.float(), runs_of(k, v, lengths)))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tile of entries is a chunk, and few answers are merged at once."""
    monkeypatch.setattr(sizes, "WAVES", 1000)
    monkeypatch.setattr(sizes, "LEAST", 16)
    monkeypatch.setattr(sizes, "ITEMS", 2)


@on_each
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("asked", "n_queries"), [(F16, 65), (F32, 33)])
def test_many_queries(device: str, asked: torch.dtype, n_queries: int) -> None:
    to = ready(device)
    q, k, v = torch.randn(1, 1, n_queries, 20), torch.randn(1, 1, 70, 20), torch.randn(1, 1, 70, 24)
    q, k, v = q.to(asked), k.to(F16), v.to(F16)
    got = decode.dense(q.to(to), k.to(to), v.to(to), scale=0.21)
    agree(got, expected(q.float(), runs_of(k, v, [70])))


@on_each
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("asked", [F16, F32], ids=str)
def test_many_chunks(device: str, asked: torch.dtype) -> None:
    to = ready(device)
    q, lengths = torch.randn(2, 1, 1, 20).to(asked), torch.tensor([130, 7], dtype=torch.int32)
    k, v = (torch.randn(2, 1, 130, dim).to(F16) for dim in (20, 24))
    want = expected(q.float(), runs_of(k, v, [130, 7]))
    agree(decode.dense(q.to(to), k.to(to), v.to(to), lengths=lengths.to(to), scale=0.21), want)
    flat = (torch.cat([x[0, 0], x[1, 0, :7]]).to(to) for x in (k, v))
    agree(decode.ragged(q.to(to), *flat, offsets=torch.tensor([0, 130, 137]), scale=0.21), want)


@on_each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_ragged(device: str, dtype: torch.dtype, group: int) -> None:
    to = ready(device)
    torch.manual_seed(group)
    counts = [7, 0, 63, 0, 130, 1]
    n, dim = sum(counts), 16
    k, v = (torch.full((n + 11, dim), math.nan, dtype=dtype) for _ in "kv")
    for x in (k, v):
        x[5 : 5 + n] = torch.randn(n, dim).to(dtype)
    k, v = k[5 : 5 + n], v[5 : 5 + n]
    q, logw = torch.randn(2, 3 * group, 1, dim), torch.randn(n)
    bounds = list(itertools.accumulate(counts, initial=0))
    offsets = torch.tensor(bounds, dtype=torch.int32)
    got = decode.ragged(
        q.to(to), k.to(to), v.to(to), offsets=offsets.to(to), logw=logw.to(to), scale=0.21, softcap=3.0
    )
    spans = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q, [(k[s], v[s], logw[s]) for s in spans], softcap=3.0))


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_ragged(data: st.DataObject) -> None:
    ready("cpu")
    n_rows, n_heads, group, n_queries = (data.draw(st.integers(1, n)) for n in (2, 2, 4, 3))
    dim = data.draw(st.integers(1, 40))
    counts = data.draw(st.lists(st.integers(0, 130), min_size=n_rows * n_heads, max_size=n_rows * n_heads))
    dtype, softcap = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from([None, 3.0]))
    torch.manual_seed(sum(counts))
    k, v = (torch.randn(sum(counts), dim).to(dtype) for _ in "kv")
    q, logw = torch.randn(n_rows, n_heads * group, n_queries, dim), torch.randn(sum(counts))
    q = q.to(dtype) if data.draw(st.booleans()) else q
    bounds = list(itertools.accumulate(counts, initial=0))
    visible = torch.randint(0, 131, (n_rows, n_queries), dtype=torch.int32)
    got = decode.ragged(
        q, k, v, offsets=torch.tensor(bounds), visible=visible, logw=logw, scale=0.21, softcap=softcap
    )
    runs = [(k[a:b], v[a:b], logw[a:b]) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q.float(), runs, visible=visible, softcap=softcap))


@on_each
@pytest.mark.parametrize("n_past", [0, 61])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("group", [1, 4])
def test_a_causal_tail_hides_even_nan(device: str, n_past: int, dtype: torch.dtype, group: int) -> None:
    to = ready(device)
    torch.manual_seed(n_past)
    n_queries, n = 3, n_past + 3
    q, k, v = (torch.randn(1, h, m, 16).to(dtype) for h, m in ((2 * group, n_queries), (2, n), (2, n)))
    visible = (n_past + 1 + torch.arange(n_queries, dtype=torch.int32))[None]
    want = expected(q.float(), runs_of(k, v, [n]), visible=visible)
    given = {"visible": visible.to(to), "scale": 0.21}
    agree(decode.dense(q.to(to), k.to(to), v.to(to), **given), want)
    v[:, :, -1] = math.nan
    out, lse = decode.dense(q.to(to), k.to(to), v.to(to), **given)
    agree((out[:, :, :2], lse), (want[0][:, :, :2], want[1]))
    assert out[:, :, 2].isnan().all()
    k[:, :, -1] = 0.0
    v[:, :, -1] = math.inf
    out, _ = decode.dense(q.to(to), k.to(to), v.to(to), **given)
    agree((out[:, :, :2], lse), (want[0][:, :, :2], want[1]))


@on_each
def test_visible_may_differ_between_heads(device: str) -> None:
    to = ready(device)
    q, k, v = torch.randn(2, 6, 3, 16), torch.randn(2, 3, 63, 16), torch.randn(2, 3, 63, 16)
    visible = torch.randint(0, 64, (2, 3, 3), dtype=torch.int32)
    visible[0, 1] = 0
    out, lse = decode.dense(q.to(to), k.to(to), v.to(to), visible=visible.to(to), scale=0.21)
    for head in range(3):
        heads, own = slice(2 * head, 2 * head + 2), slice(head, head + 1)
        want = expected(q[:, heads], runs_of(k[:, own], v[:, own], [63, 63]), visible=visible[:, head])
        agree((out[:, heads], lse[:, heads]), want)


@on_each
@pytest.mark.parametrize("asked", [F32, F16], ids=str)
def test_log_weight_of_minus_infinity_hides_even_nan(device: str, asked: torch.dtype) -> None:
    to = ready(device)
    torch.manual_seed(1)
    q = torch.randn(2, 8, 2, 16).to(asked)
    k, v = (torch.randn(2, 2, 130, 16).to(F16) for _ in "kv")
    logw = torch.randn(2, 2, 130)
    gone = torch.rand(2, 2, 130) < 0.3
    gone[1, 0], gone[0, 1, :100] = True, True
    logw[gone], k[gone], v[gone] = -math.inf, math.nan, math.nan
    got = decode.dense(q.to(to), k.to(to), v.to(to), logw=logw.to(to), scale=0.21)
    agree(got, expected(q.float(), runs_of(k.nan_to_num(), v.nan_to_num(), [130, 130], logw)))
    assert not got[0][1, :4].any() and torch.isneginf(got[1][1, :4]).all()


@on_each
def test_log_weight_is_broadcast(device: str) -> None:
    to = ready(device)
    q, k, v = torch.randn(2, 2, 1, 16), torch.randn(2, 2, 63, 16), torch.randn(2, 2, 63, 16)
    logw = torch.randn(2, 1, 63)
    got = decode.dense(q.to(to), k.to(to), v.to(to), logw=logw.to(to), scale=0.21)
    agree(got, expected(q, runs_of(k, v, [63, 63], logw.expand(2, 2, 63))))


@on_each
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_soft_cap(device: str, size: float) -> None:
    to = ready(device)
    q, k, v = size * torch.randn(1, 4, 1, 32), torch.randn(1, 2, 63, 32), torch.randn(1, 2, 63, 32)
    got = decode.dense(q.to(to), k.to(to), v.to(to), scale=1.0, softcap=20.0)
    agree(got, expected(q, runs_of(k, v, [63]), scale=1.0, softcap=20.0))


@on_each
def test_nothing_stored_and_nobody_asking(device: str) -> None:
    to = ready(device)
    q, k = torch.randn(2, 4, 1, 16, device=to), torch.randn(2, 2, 7, 16, device=to)
    none = torch.zeros(2, dtype=torch.int32, device=to)
    flat = k.reshape(-1, 16)
    for out, lse in (
        decode.dense(q, k[:, :, :0], k[:, :, :0], scale=1.0),
        decode.dense(q, k, k, lengths=none, scale=1.0),
        decode.dense(q, k, k, visible=none[:, None], scale=1.0),
        decode.ragged(q, flat[:0], flat[:0], offsets=torch.zeros(5), scale=1.0),
        decode.ragged(q, flat, flat, offsets=torch.full((5,), 28), scale=1.0),
    ):
        assert out.shape == (2, 4, 1, 16) and not out.any() and torch.isneginf(lse).all()
    out, lse = decode.dense(q[:, :, :0], k, k, scale=1.0)
    assert out.shape == (2, 4, 0, 16) and lse.shape == (2, 4, 0)


@on_each
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize(("place", "n_entries"), [(3, 130), (129, 130), (0, 1)])
def test_nan_among_the_entries_is_not_swallowed(device: str, place: int, n_entries: int) -> None:
    to = ready(device)
    q, k, v = torch.randn(1, 4, 1, 16), torch.randn(1, 2, n_entries, 16), torch.randn(1, 2, n_entries, 16)
    k[0, 1, place] = math.nan
    out, lse = decode.dense(q.to(to), k.to(to), v.to(to), scale=0.21)
    assert out[0, 2:].isnan().all() and lse[0, 2:].isnan().all()
    assert out[0, :2].isfinite().all() and lse[0, :2].isfinite().all()


@on_each
def test_extreme_logits_neither_overflow_nor_vanish(device: str) -> None:
    to = ready(device)
    q, k, v = torch.ones(1, 2, 1, 16), torch.ones(1, 1, 130, 16), torch.randn(1, 1, 130, 16)
    k[:, :, 90:] *= 400.0
    k[:, :, :40] *= -400.0
    for dtype in (F32, F16):
        asked, *stored = (x.to(dtype) for x in (q, k, v))
        got = decode.dense(asked.to(to), *(x.to(to) for x in stored), scale=1.0)
        agree(got, expected(q, runs_of(*stored, [130]), scale=1.0))


@on_each
def test_many_small_weights_count_in_float16(device: str) -> None:
    to = ready(device)
    q, v = torch.ones(1, 1, 1, 16).to(F16), torch.ones(1, 1, 130, 16).to(F16)
    k = torch.zeros(1, 1, 130, 16).to(F16)
    k[:, :, 0], v[:, :, 0] = 1.0, 0.0
    got = decode.dense(q.to(to), k.to(to), v.to(to), scale=1.125)
    out, lse = expected(q.float(), runs_of(k, v, [130]), scale=1.125)
    # Every weight lies below the smallest float16.
    assert float(out.max()) / 129 < 2.0**-25
    assert float((got[0].cpu() / out - 1.0).abs().max()) < 1e-4 and torch.equal(got[1].cpu(), lse.float())


@on_each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_namesakes(device: str, dtype: torch.dtype) -> None:
    to = ready(device)
    torch.manual_seed(5)
    q, k, v = torch.randn(2, 4, 1, 32), *(torch.randn(2, 2, 63, 32).to(dtype) for _ in "kv")
    want = attend.dense(q, k.float(), v.float(), scale=0.21)
    agree(decode.dense(q.to(to), k.to(to), v.to(to), scale=0.21), want)
    parts = [
        decode.dense(q.to(to), k[:, :, s].to(to), v[:, :, s].to(to), scale=0.21)
        for s in (slice(0, 20), slice(20, 63))
    ]
    agree(attend.merge(*parts), want)
    bounds, flat = [0, 63, 63, 130, 252], [x.reshape(-1, 32) for x in (k, v)]
    want = attend.ragged(q, *(x.float() for x in flat), bounds=bounds, scale=0.21)
    agree(decode.ragged(q.to(to), *(x.to(to) for x in flat), offsets=torch.tensor(bounds), scale=0.21), want)


@on_each
def test_inputs_are_left_alone(device: str) -> None:
    to = ready(device)
    given = [torch.randn(1, 2, n, 16, device=to) for n in (1, 63, 63)]
    logw = torch.randn(1, 2, 63, device=to)
    copies = [x.clone() for x in (*given, logw)]
    decode.dense(*given, logw=logw, scale=0.21)
    assert all(torch.equal(x, y) for x, y in zip((*given, logw), copies, strict=True))
