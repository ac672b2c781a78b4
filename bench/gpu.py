"""Times the device kernels beside torch and the plain path on a CUDA device; docs/gpu.md is their table.

    python bench/gpu.py [--rounds 30] [--only dense-bfloat16-]

All ways of one case take turns in one process, timed by events on the device. Before every turn a buffer
larger than its caches is written, so that stored bytes come from memory, and so that the host has put the
work in line by the time it begins; what the host itself needs is kept beside. A copy on the device gives the
bandwidth that stored bytes per second are a share of.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gpu_page
import torch
import torch.nn.functional as F
from torch import Tensor

from keyvalise.ops import affine, attend, codewords, rope
from keyvalise.ops import mass as plain_mass
from keyvalise.ops.fast.gpu import decode, legible, mass
from keyvalise.types.data import Entries, Piece, Stretch
from keyvalise.types.geometry import Geometry, Rope
from keyvalise.types.written import Codewords, Integers

Way = Callable[[], Any]
Case = tuple[dict[str, Any], dict[str, Way]]
TARGET = pathlib.Path(__file__).parent / "results" / "gpu.jsonl"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "gpu.md"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZES = tuple(2**i for i in range(10, 18))
HEADS, DIM, COLD_BYTES = 8, 128, 512 * 2**20


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Normal numbers on the device."""
    return torch.randn(shape, device="cuda").to(dtype)


def described(kind: str, dtype: str, group: int, n_queries: int, entries: int) -> dict[str, Any]:
    """What every line begins with."""
    return {"kind": kind, "dtype": dtype, "H": HEADS, "G": group, "S": n_queries, "D": DIM, "T": entries}


def dense_case(dtype: str, group: int, entries: int) -> Case:
    """One query per query head, against torch's attention without lse and `attend.dense` with it."""
    kind = DTYPES[dtype]
    q = normal(1, HEADS * group, 1, DIM, dtype=kind)
    k, v = (normal(1, HEADS, entries, DIM, dtype=kind) for _ in "kv")
    folded, scale = q.view(1, HEADS, group, DIM), DIM**-0.5
    ways: dict[str, Way] = {
        "kernel": lambda: decode.dense(q, k, v, scale=scale),
        "sdpa": lambda: F.scaled_dot_product_attention(folded, k, v, scale=scale),
        "plain": lambda: attend.dense(q, k, v, scale=scale),
    }
    return described("dense", dtype, group, 1, entries) | {"bytes": 2 * k.nbytes}, ways


def ragged_case(dtype: str, group: int, entries: int) -> Case:
    """Heads of unequal length, `entries` on average, against `attend.ragged`."""
    share = torch.arange(1, HEADS + 1)
    counts = (share / share.sum() * HEADS * entries).long()
    counts[-1] += HEADS * entries - int(counts.sum())
    bounds = [0, *counts.cumsum(0).tolist()]
    offsets = torch.tensor(bounds, dtype=torch.int32, device="cuda")
    q = normal(1, HEADS * group, 1, DIM, dtype=DTYPES[dtype])
    k, v = (normal(HEADS * entries, DIM, dtype=DTYPES[dtype]) for _ in "kv")
    folded, scale = q.view(HEADS, 1, group, DIM), DIM**-0.5
    spans = [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def loop() -> list[Tensor]:
        stored = [(k[None, None, span], v[None, None, span]) for span in spans]
        return [F.scaled_dot_product_attention(folded[i : i + 1], *x) for i, x in enumerate(stored)]

    ways: dict[str, Way] = {
        "kernel": lambda: decode.ragged(q, k, v, offsets=offsets, scale=scale),
        "sdpa": loop,
        "plain": lambda: attend.ragged(q, k, v, bounds=bounds, scale=scale),
    }
    return described("ragged", dtype, group, 1, entries) | {"bytes": 2 * k.nbytes}, ways


def integers_case(bits: int, group: int, entries: int) -> Case:
    """Read where they lie, against torch's attention over bfloat16 entries and spelling them out first."""
    x, y = (normal(HEADS * entries, DIM, dtype=torch.float32) for _ in "kv")
    keys, values = (Integers(*affine.encode_rows(one, bits, 64), bits, DIM) for one in (x, y))
    q, scale = normal(1, HEADS * group, 1, DIM), DIM**-0.5
    bounds = [i * entries for i in range(HEADS + 1)]
    offsets = torch.tensor(bounds, dtype=torch.int32, device="cuda")
    k, v = (one.bfloat16().view(1, HEADS, entries, DIM) for one in (x, y))
    folded = q.view(1, HEADS, group, DIM)

    def first() -> Any:
        sides = (affine.decode_rows(one.codes, one.scales, bits, DIM) for one in (keys, values))
        return attend.ragged(q, *sides, bounds=bounds, scale=scale)

    ways: dict[str, Way] = {
        "kernel": lambda: decode.coded(q, keys, values, offsets=offsets, scale=scale),
        "sdpa": lambda: F.scaled_dot_product_attention(folded, k, v, scale=scale),
        "plain": first,
    }
    n_bytes = sum(one.codes.nbytes + one.scales.nbytes for one in (keys, values))
    return described("integers", f"int{bits}", group, 1, entries) | {"bytes": n_bytes}, ways


def codewords_case(group: int, entries: int) -> Case:
    """Read where they lie and turned by position, against bfloat16 entries and spelling them out first."""
    names = torch.randint(0, 256, (2, HEADS * entries, DIM // 8), dtype=torch.uint8, device="cuda")
    books = normal(2, HEADS, DIM // 8, 256, 8, dtype=torch.float16)
    places = torch.arange(entries, dtype=torch.int32, device="cuda").repeat(HEADS)
    turn = Rope(10000.0 ** -(torch.arange(DIM // 2, device="cuda") / (DIM // 2)), False)
    keys, values = Codewords(names[0], books[0], DIM, turn=(places, turn)), Codewords(names[1], books[1], DIM)
    heads = torch.arange(HEADS, device="cuda").repeat_interleave(entries)
    q, scale, bounds = normal(1, HEADS * group, 1, DIM), DIM**-0.5, [i * entries for i in range(HEADS + 1)]
    offsets = torch.tensor(bounds, dtype=torch.int32, device="cuda")

    def spelled() -> tuple[Tensor, Tensor]:
        k, v = (codewords.spelled(side.codes.int(), heads, side.books) for side in (keys, values))
        return rope.apply(k, places, turn), v

    k, v = (x.bfloat16().view(1, HEADS, entries, DIM) for x in spelled())
    folded = q.view(1, HEADS, group, DIM)
    ways: dict[str, Way] = {
        "kernel": lambda: decode.coded(q, keys, values, offsets=offsets, scale=scale),
        "sdpa": lambda: F.scaled_dot_product_attention(folded, k, v, scale=scale),
        "plain": lambda: attend.ragged(q, *spelled(), bounds=bounds, scale=scale),
    }
    n_bytes = names.nbytes + books.nbytes + places.nbytes
    return described("codewords", "16 bytes", group, 1, entries) | {"bytes": n_bytes}, ways


def mass_case(kind: str, dtype: str, group: int, n_queries: int, entries: int) -> Case:
    """The newest queries of a prompt over all its entries, against the plain path; sums need their lse."""
    keys = normal(1, HEADS, entries, DIM, dtype=DTYPES[dtype])
    q = normal(1, HEADS * group, n_queries, DIM, dtype=DTYPES[dtype])
    geometry = Geometry(1, HEADS * group, HEADS, DIM, DIM, DTYPES[dtype], DIM**-0.5)
    ordinals = torch.arange(entries, dtype=torch.int32, device="cuda").expand(1, HEADS, entries)
    lengths = torch.full((1, HEADS), entries, dtype=torch.int32, device="cuda")
    held = Entries(lengths, ordinals >= 0, ordinals, None, {}, lambda: keys, lambda: keys)
    if kind == "window":
        newest = ordinals[:, 0, -n_queries:]
        ways: dict[str, Way] = {
            "kernel": lambda: mass.window_mass(geometry, q, newest, held),
            "plain": lambda: plain_mass.window_mass(geometry, q, newest, held),
        }
    else:
        lse = torch.full((1, HEADS * group, n_queries), 9.0, device="cuda")
        piece = Piece(q, q, q, Stretch.whole(n_queries, (entries - n_queries,)), find_lse=lambda: lse)
        ways = {
            "kernel": lambda: mass.column_sums(geometry, piece, held),
            "plain": lambda: plain_mass.column_sums(geometry, piece, held),
        }
    return described(kind, dtype, group, n_queries, entries) | {"bytes": keys.nbytes}, ways


def cases() -> Iterator[Callable[[], Case]]:
    """1,024 to 131,072 entries of 8 heads of 128."""
    for entries in SIZES:
        for dtype, group in (
            ("bfloat16", 1),
            ("bfloat16", 4),
            ("bfloat16", 8),
            ("float16", 4),
            ("float32", 1),
        ):
            yield lambda d=dtype, g=group, t=entries: dense_case(d, g, t)  # type: ignore[misc]
        yield lambda t=entries: ragged_case("bfloat16", 4, t)  # type: ignore[misc]
        for bits in (8, 4, 2):
            yield lambda b=bits, t=entries: integers_case(b, 4, t)  # type: ignore[misc]
        yield lambda t=entries: codewords_case(4, t)  # type: ignore[misc]
        yield lambda t=entries: mass_case("window", "bfloat16", 4, 32, t)  # type: ignore[misc]
        yield lambda t=entries: mass_case("sums", "bfloat16", 4, min(t, 4096), t)  # type: ignore[misc]


def measure(ways: dict[str, Way], rounds: int, cold: Tensor) -> dict[str, dict[str, float]]:
    """Milliseconds of each way, in turns; the first turns compile and warm up and are not counted."""
    device: dict[str, list[float]] = {name: [] for name in ways}
    host: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        for name, way in ways.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
            cold.zero_()
            begin.record()
            start = time.perf_counter()
            way()
            passed = time.perf_counter() - start
            end.record()
            torch.cuda.synchronize()
            if turn >= 3:
                device[name].append(begin.elapsed_time(end))
                host[name].append(1e3 * passed)
    return {
        name: {
            "least": round(min(times), 5),
            "median": round(statistics.median(times), 5),
            "host": round(statistics.median(host[name]), 5),
        }
        for name, times in device.items()
    }


def copied_per_second(cold: Tensor) -> float:
    """Bytes read and written by a copy of half the buffer, of which the best of many."""
    half = cold.numel() // 2
    copy = {"copy": lambda: cold[:half].copy_(cold[half:])}
    found = measure(copy, 20, cold[:1])
    return 2e3 * half * cold.itemsize / found["copy"]["least"]


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]

    versions = {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda}
    return {"device": torch.cuda.get_device_name(), "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was timed and nothing written.")
        return
    if not legible.is_installed() or legible.is_interpreted():
        sys.exit(f"triton must be installed, and {legible.VARIABLE} not be set")
    torch.manual_seed(0)
    cold = torch.zeros(COLD_BYTES // 4, device="cuda")
    copied = copied_per_second(cold)
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("a") as target:
        for make in cases():
            what, ways = make()
            if args.only not in f"{what['kind']}-{what['dtype']}-{what['T']}-":
                continue
            times = measure(ways, args.rounds, cold)
            share = {name: what["bytes"] / (1e-3 * t["median"]) / copied for name, t in times.items()}
            line = {
                **what,
                "ms": times,
                "share_of_copy": round(share["kernel"], 4),
                "copy_per_s": round(copied),
            }
            target.write(json.dumps({**line, "rounds": args.rounds, "seed": 0, **machine()}) + "\n")
            target.flush()
            print(
                what, {name: t["median"] for name, t in times.items()}, f"{share['kernel']:.0%}", flush=True
            )
            del ways
    lines = [json.loads(line) for line in TARGET.read_text("utf-8").splitlines()]
    PAGE.write_text(gpu_page.table(lines), "utf-8")


if __name__ == "__main__":
    main()
