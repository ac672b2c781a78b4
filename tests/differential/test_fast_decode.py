"""The compiled decode kernels against a float64 definition and against their namesakes in `ops.attend`."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.ops.fast import choose, decode, launch
from tests.support.compare import assert_close

Answer = tuple[Tensor, Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def define(
    q: Tensor, k: Tensor, v: Tensor, sees: Tensor, *, scale: float, softcap: float | None, logw: Tensor
) -> Answer:
    """One (row, head) in float64: q [R, D], k [T, D], v [T, Dv], sees bool [R, T], logw [T]."""
    scores = q.double() @ k.double().T * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = torch.where(sees & ~torch.isneginf(logw), scores + logw.double(), -math.inf)
    lse = scores.logsumexp(-1) if k.shape[0] else torch.full(q.shape[:1], -math.inf).double()
    weights = torch.exp(scores - lse.nan_to_num(neginf=0.0)[:, None])
    values = torch.where((sees & ~torch.isneginf(logw)).any(0)[:, None], v.double(), 0.0)
    return weights @ values, lse


def expected(
    q: Tensor,
    runs: list[tuple[Tensor, Tensor, Tensor]],
    *,
    visible: Tensor | None = None,
    scale: float = 0.21,
    softcap: float | None = None,
) -> Answer:
    """Runs of (k, v, logw), row by row and head by head; visible [B, S]."""
    n_rows, n_query, n_queries, dim = q.shape
    n_heads = len(runs) // n_rows
    outs, lses = [], []
    for i, (k, v, logw) in enumerate(runs):
        row, head = divmod(i, n_heads)
        mine = q[row].view(n_heads, -1, n_queries, dim)[head]
        limits = torch.full((n_queries,), len(k)) if visible is None else visible[row]
        sees = torch.arange(len(k))[None] < limits.repeat(mine.shape[0])[:, None]
        out, lse = define(mine.reshape(-1, dim), k, v, sees, scale=scale, softcap=softcap, logw=logw)
        outs.append(out.view(-1, n_queries, v.shape[-1]))
        lses.append(lse.view(-1, n_queries))
    shape = (n_rows, n_query, n_queries)
    return torch.stack(outs).view(*shape, -1), torch.stack(lses).view(shape)


def agree(got: Answer, want: Answer) -> None:
    assert got[0].dtype == got[1].dtype == torch.float32
    assert_close(got[0], want[0], "attention_fp32", what="out")
    assert_close(got[1], want[1], "attention_fp32", what="lse")


def poisoned(n_rows: int, n_heads: int, lengths: list[int], dim: int, dtype: torch.dtype) -> Tensor:
    """A strided view [B, H, max length, dim] of a larger buffer that is NaN wherever no entry lies."""
    longest = max(lengths)
    buffer = torch.full((n_rows, longest + 9, n_heads, dim), math.nan, dtype=dtype)
    for row, n in enumerate(lengths):
        buffer[row, 4 : 4 + n] = torch.randn(n, n_heads, dim).to(dtype)
    return buffer[:, 4 : 4 + longest].transpose(1, 2)


def runs_of(
    k: Tensor, v: Tensor, lengths: list[int], logw: Tensor | None = None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    weights = torch.zeros(k.shape[:3]) if logw is None else logw
    return [
        (k[row, head, :n], v[row, head, :n], weights[row, head, :n])
        for row, n in enumerate(lengths)
        for head in range(k.shape[1])
    ]


@pytest.mark.parametrize("n_entries", [0, 1, 7, 63, 130, 1025])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("group", "n_queries", "key_dim", "value_dim"),
    [(1, 1, 32, 32), (2, 3, 16, 80), (4, 1, 128, 128), (3, 1, 80, 16), (4, 3, 32, 128)],
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
@pytest.mark.parametrize(("group", "n_queries", "dim"), [(1, 3, 16), (2, 1, 128), (4, 3, 80)])
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


def test_log_weight_of_minus_infinity_hides_even_nan() -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(2, 8, 2, 16), torch.randn(2, 2, 700, 16), torch.randn(2, 2, 700, 16)
    logw = torch.randn(2, 2, 700)
    gone = torch.rand(2, 2, 700) < 0.3
    gone[1, 0], gone[0, 1, :400] = True, True
    logw[gone], k[gone], v[gone] = -math.inf, math.nan, math.nan
    got = decode.dense(q, k, v, logw=logw, scale=0.21)
    agree(got, expected(q, runs_of(k.nan_to_num(), v.nan_to_num(), [700, 700], logw)))
    assert torch.equal(got[0][1, :4], torch.zeros(4, 2, 16)) and torch.isneginf(got[1][1, :4]).all()


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_16_bit_number_is_widened_exactly(dtype: torch.dtype) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(dtype) if dtype is not torch.float32 else torch.randn(2**16)
    numbers = numbers[numbers.isfinite()]
    v = numbers[: len(numbers) // 8 * 8].view(1, 1, 1, -1)
    q, k = torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 1, 8, dtype=dtype)
    assert torch.equal(decode.dense(q, k, v, scale=1.0)[0], v.float())


def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_openmp", lambda: None)


def _openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    if launch._openmp() is None:
        pytest.skip("torch came without GNU OpenMP")


@pytest.mark.parametrize("how", [_threads, _openmp])
def test_any_number_of_threads_gives_one_answer(
    monkeypatch: pytest.MonkeyPatch, how: Callable[[pytest.MonkeyPatch], None]
) -> None:
    torch.manual_seed(7)
    q, k, v = torch.randn(1, 4, 1, 64), torch.randn(1, 1, 9000, 64), torch.randn(1, 1, 9000, 64)
    want = expected(q, runs_of(k, v, [9000]))
    how(monkeypatch)
    started: list[int] = []
    run = launch.run
    monkeypatch.setattr(launch, "run", lambda work, at, n: (started.append(n), run(work, at, n)))
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            for _ in range(5):
                agree(decode.dense(q, k, v, scale=0.21), want)
    finally:
        torch.set_num_threads(before)
    assert set(started) == {1, 2, 3}


def test_inputs_are_left_alone() -> None:
    q, k, v, logw = (
        torch.randn(1, 2, 1, 16),
        torch.randn(1, 2, 63, 16),
        torch.randn(1, 2, 63, 16),
        torch.randn(1, 2, 63),
    )
    copies = [x.clone() for x in (q, k, v, logw)]
    decode.dense(q, k, v, logw=logw, scale=0.21)
    assert all(torch.equal(x, y) for x, y in zip((q, k, v, logw), copies, strict=True))


def test_what_cannot_be_read_is_refused() -> None:
    q, k = torch.randn(1, 2, 1, 16), torch.randn(1, 2, 7, 16)
    cases = [
        (k.double(), k.double(), "must both be float32"),
        (k, k.half(), "must both be float32"),
        (k[..., :12], k, "multiples of 8"),
        (k.transpose(2, 3).contiguous().transpose(2, 3), k, "stride 1"),
        (k, k[:, :, :5], "differ in entries"),
        (k[..., :8], k, "do not fit"),
        (k.to("meta"), k.to("meta"), "on the CPU"),
    ]
    for keys, values, message in cases:
        with pytest.raises(ValueError, match=message):
            decode.dense(q, keys, values, scale=1.0)
    with pytest.raises(ValueError, match="2 lengths for 1 rows"):
        decode.dense(q, k, k, lengths=torch.tensor([1, 2]), scale=1.0)
    assert decode.available(k, k) and not decode.available(k.double(), k.double())


def test_importing_does_not_load_the_compiler() -> None:
    code = "import sys, keyvalise.ops.fast.decode; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warm_reports_every_form() -> None:
    seen: list[str] = []
    decode.warm(progress=lambda kind, seconds: seen.append(kind) if seconds >= 0 else None)
    assert seen == ["float32", "bfloat16", "float16"]


def test_a_cache_that_cannot_be_written_warns_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyvalise.ops.fast import kernel

    def stub(signature: object, *, error_model: str, cache: bool = False) -> Callable[[object], str]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda work: "compiled"

    monkeypatch.setattr(kernel, "cfunc", stub)
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        assert kernel._compiled(None, None) == "compiled"


def test_exponential() -> None:
    import numba

    from keyvalise.ops.fast import softmax

    @numba.njit
    def each(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = softmax.exp(x[i])
        return y

    x = -np.logspace(-8, math.log10(86.9), 20_011).astype(np.float32)
    true = np.exp(x.astype(np.float64))
    assert np.abs(each(x) / true - 1.0).max() < 3e-7
    edges = each(np.array([0.0, -87.5, -np.inf, np.nan], np.float32))
    assert edges[:3].tolist() == [1.0, 0.0, 0.0] and np.isnan(edges[3])


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    choose._forced.cache_clear()
    small, large = (lambda n: choose.is_faster("dense", torch.float32, n, rival="sdpa")), 2**18
    assert small(large) and not small(64)
    assert not choose.is_faster("dense", torch.float32, large, per_head=4096)
    assert not choose.is_faster("dense", torch.float64, large)
    assert choose.is_faster("dense", torch.float32, 0, rival="sdpa", force=True)
    for word, forced in (("always", True), ("never", False)):
        monkeypatch.setenv(choose.VARIABLE, word)
        choose._forced.cache_clear()
        assert choose.is_faster("ragged", torch.float64, 7) is forced
        assert choose.is_faster("dense", torch.float32, large) is forced
        assert choose.is_faster("dense", torch.float32, large, force=not forced) is not forced
    monkeypatch.undo()
    choose._forced.cache_clear()
