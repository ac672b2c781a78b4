"""Times the compiled decode kernels beside their rivals in torch and writes one JSON line per case.

    python bench/decode_kernels.py [--seconds 1.0] [--threads 2] [--only dense-float32-128-]

All ways of one case run alternately in one process; least and median of the repeats are kept, with the load
of the machine, because the least is what an idle machine gives and the median what this one gave.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite
import numba
import torch
import torch.nn.functional as F
from torch import Tensor

from keyvalise.ops import affine, attend
from keyvalise.ops.fast import decode
from keyvalise.types.written import Integers

Way = Callable[[], Any]
Case = tuple[dict[str, Any], dict[str, Way]]
TARGET = pathlib.Path(__file__).parent / "results" / "decode_kernels.jsonl"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dense_case(rows: int, heads: int, group: int, n_queries: int, dim: int, entries: int, dtype: str) -> Case:
    """Kernel against torch's own attention and against `attend.dense`, which also gives the lse."""
    q = torch.randn(rows, heads * group, n_queries, dim)
    k, v = (torch.randn(rows, heads, entries, dim).to(DTYPES[dtype]) for _ in "kv")
    lengths, scale = torch.full((rows,), entries, dtype=torch.int32), dim**-0.5
    folded = q.to(k.dtype).view(rows, heads, group * n_queries, dim)

    def grouped() -> Tensor:
        return torch.matmul(torch.softmax(torch.matmul(folded, k.transpose(2, 3)) * scale, -1), v)

    ways: dict[str, Way] = {
        "kernel": lambda: decode.dense(q, k, v, lengths=lengths, scale=scale),
        "attend": lambda: attend.dense(q, k, v, scale=scale),
        "sdpa": lambda: F.scaled_dot_product_attention(folded, k, v),
    }
    if dtype == "float32":
        ways |= {"grouped_matmul": grouped, "read_once": lambda: (k.sum(), v.sum())}
    shape = dict(zip("B H G S D T".split(), (rows, heads, group, n_queries, dim, entries), strict=True))
    return {"kind": "dense", "dtype": dtype, **shape}, ways


def ragged_case(rows: int, heads: int, group: int, dim: int, average: int, dtype: str) -> Case:
    """Unequal heads against a loop over heads and against the kernel on a dense store of the same total."""
    torch.manual_seed(0)
    share = torch.rand(rows * heads) ** 2 + 0.05
    counts = (share / share.sum() * rows * heads * average).int()
    counts[-1] += rows * heads * average - int(counts.sum())
    bounds = [0, *counts.cumsum(0).tolist()]
    offsets, total = torch.tensor(bounds, dtype=torch.int32), bounds[-1]
    q, scale = torch.randn(rows, heads * group, 1, dim), dim**-0.5
    k, v = (torch.randn(total, dim).to(DTYPES[dtype]) for _ in "kv")
    wide = [x.view(rows, heads, average, dim) for x in (k, v)]
    folded = q.to(k.dtype).view(rows * heads, 1, group, dim)

    def loop() -> list[Tensor]:
        spans = [(k[None, None, a:b], v[None, None, a:b]) for a, b in itertools.pairwise(bounds)]
        return [F.scaled_dot_product_attention(folded[i : i + 1], *span) for i, span in enumerate(spans)]

    ways: dict[str, Way] = {
        "kernel": lambda: decode.ragged(q, k, v, offsets=offsets, scale=scale),
        "kernel_uniform_dense": lambda: decode.dense(q, *wide, scale=scale),
        "attend": lambda: attend.ragged(q, k, v, bounds=bounds, scale=scale),
        "loop": loop,
    }
    shape = dict(zip("B H G S D T".split(), (rows, heads, group, 1, dim, average), strict=True))
    return {"kind": "ragged", "dtype": dtype, **shape, "longest": int(counts.max())}, ways


def integers_case(bits: int, heads: int, group: int, n_queries: int, dim: int, entries: int) -> Case:
    """Kernel against decoding first, whole, and against the kernel on float32 entries."""
    x, y = (torch.randn(heads * entries, dim) for _ in "kv")
    keys, values = (Integers(*affine.encode_rows(one, bits, 64), bits, dim) for one in (x, y))
    q, scale = torch.randn(1, heads * group, n_queries, dim), dim**-0.5
    bounds = [i * entries for i in range(heads + 1)]
    offsets = torch.tensor(bounds, dtype=torch.int32)

    def first() -> Any:
        sides = [affine.decode_rows(one.codes, one.scales, bits, dim) for one in (keys, values)]
        return attend.ragged(q, *sides, bounds=bounds, scale=scale)

    ways: dict[str, Way] = {
        "kernel": lambda: decode.coded(q, keys, values, offsets=offsets, scale=scale),
        "decode_first": first,
        "kernel_float32": lambda: decode.ragged(q, x, y, offsets=offsets, scale=scale),
    }
    shape = dict(zip("B H G S D T".split(), (1, heads, group, n_queries, dim, entries), strict=True))
    return {"kind": "integers", "dtype": f"int{bits}", **shape}, ways


def cases() -> Iterator[Callable[[], Case]]:
    """From the reference model's shape to 32,768 entries."""
    for dtype in DTYPES:
        for entries in (16, 128, 512, 2048, 8192):
            yield lambda d=dtype, t=entries: dense_case(1, 4, 2, 1, 32, t, d)
        for entries in (16, 128, 1024, 4096, 32768):
            yield lambda d=dtype, t=entries: dense_case(1, 8, 4, 1, 128, t, d)
        for n_queries in (4, 8, 16, 32):
            yield lambda d=dtype, s=n_queries: dense_case(1, 8, 4, s, 128, 4096, d)
        for n_queries in (8, 16, 32):
            yield lambda d=dtype, s=n_queries: dense_case(1, 4, 2, s, 32, 512, d)
        for average in (16, 128, 2048):
            yield lambda d=dtype, t=average: ragged_case(8, 8, 4, 128, t, d)
        yield lambda d=dtype: ragged_case(1, 4, 2, 32, 128, d)
    for bits in (2, 4, 8):
        for entries in (128, 2048):
            yield lambda b=bits, t=entries: integers_case(b, 4, 2, 1, 32, t)
        for n_queries in (1, 4, 8, 16):
            yield lambda b=bits, s=n_queries: integers_case(b, 8, 4, s, 128, 4096)
        for n_queries in (8, 16):
            yield lambda b=bits, s=n_queries: integers_case(b, 4, 2, s, 32, 512)


def measure(ways: dict[str, Way], seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds of each way, run in turns for about `seconds` in all; the first two turns only warm up.

    `cpu` is the least time on all cores together; it leaves out what other processes took.
    """
    inner = {}
    for name, way in ways.items():
        way()
        start = time.perf_counter()
        way()
        inner[name] = max(1, min(50, int(1e-3 / (time.perf_counter() - start))))
    found: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["kernel"]) < 7:
        for name, way in ways.items():
            start, used = time.perf_counter(), time.process_time()
            for _ in range(inner[name]):
                way()
            found[name].append(1e3 * (time.perf_counter() - start) / inner[name])
            cpu[name] = min(cpu[name], 1e3 * (time.process_time() - used) / inner[name])
    return {
        name: {
            "least": round(min(ts), 5),
            "median": round(statistics.median(ts), 5),
            "cpu": round(cpu[name], 5),
            "n": len(ts),
        }
        for name, ts in found.items()
    }


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    lines = pathlib.Path("/proc/cpuinfo")
    found = [x.split(":")[1].strip() for x in lines.read_text().splitlines() if x.startswith("model name")]
    versions = {"torch": torch.__version__, "numba": numba.__version__, "llvmlite": llvmlite.__version__}
    cpu = {"cpu": found[0] if found else platform.processor(), "cores": os.cpu_count()}
    return {**cpu, "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    compiled: dict[str, float] = {}
    decode.warm(progress=lambda kind, seconds: compiled.__setitem__(kind, round(seconds, 2)))
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("a") as target:
        for make in cases():
            what, ways = make()
            if args.only not in f"{what['kind']}-{what['dtype']}-{what['T']}-":
                continue
            times = measure(ways, args.seconds)
            ratios = {
                by: {n: round(t[by] / times["kernel"][by], 3) for n, t in times.items()}
                for by in ("least", "median", "cpu")
            }
            line = {**what, "threads": args.threads, "ms": times, "ratio_to_kernel": ratios}
            line |= {"load": round(os.getloadavg()[0], 2), "warm_s": compiled, "seed": 0, **machine()}
            target.write(json.dumps(line) + "\n")
            target.flush()
            print({**what, "threads": args.threads}, {n: t["least"] for n, t in times.items()}, flush=True)


if __name__ == "__main__":
    main()
