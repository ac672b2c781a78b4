"""How the compiled kernels start: threads, what they refuse, what they leave alone, and who is chosen."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from keyvalise.ops.fast import choose, decode, launch, plan
from tests.support.decoding import agree, expected, runs_of


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
        (k.byte(), k.byte(), "must both be float32"),
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
    assert seen == ["float32", "bfloat16", "float16", "integers", "codewords"]


def test_a_cache_that_cannot_be_written_warns_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyvalise.ops.fast import kernel

    def stub(signature: object, *, error_model: str, cache: bool = False) -> Callable[[object], str]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda work: "compiled"

    monkeypatch.setattr(kernel, "cfunc", stub)
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        assert kernel.compiled(lambda: None, "float32", None) == "compiled"


ANSWER = """
import torch
from keyvalise.ops.fast import decode
torch.manual_seed(0)
torch.set_num_threads(1)
q, (k, v) = 2 * torch.randn(64, 8, 1, 16), torch.randn(2, 64, 4, 73, 16)
logw = torch.zeros(64, 4, 73)
logw[1::2, :, :20] = -torch.inf
out, lse = decode.dense(q, k, v, logw=logw, scale=0.25)
print(out.view(torch.int32).tolist(), lse.view(torch.int32).tolist())
"""


@pytest.mark.slow
def test_who_compiles_and_who_loads_answer_in_the_same_bits(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ANSWER], env=env, check=True, capture_output=True, text=True
        )
        found.append(done.stdout)
        kept = [path.name for path in tmp_path.rglob("kernel.*.nbi")]
        assert len(kept) == 1 and kept[0].startswith("kernel.float32-"), kept
    assert found[0] == found[1] and len(found[0]) > 1000


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


def test_counters_lie_where_every_processor_can_count() -> None:
    from keyvalise.ops.fast import kernel

    assert plan.LAYOUT.size % 8 == 0 and kernel.record().itemsize == plan.LAYOUT.size
