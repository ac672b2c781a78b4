"""Attention of one query per head against reading the same bytes once, for every way of storing, from 1k to
128k entries.

python bench/roofline.py [CASE …] [--again] [--list]

The roofline is the time in which torch adds up all stored bytes as float32 numbers, on as many threads.
Exponents are fitted over 8k to 128k entries: 1 is time in proportion to length.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import cases
import decode
import torch
from torch import Tensor

from keyvalise.ops import attend, coded
from keyvalise.types.geometry import Rope
from keyvalise.types.written import Codewords, Integers

HEADS, GROUP, DIM, ROUNDS = 8, 4, 128, 9
LENGTHS = tuple(2**i for i in range(10, 18))
LONG, FITTED = 32768, 8192
MOST = {"fp32": 1.6, "bf16": 1.6, "fp16": 1.6}
"""Of the time of reading, asked for numbers that are stored as they are."""

Ask = Callable[[int], Any]


def raw(name: str) -> tuple[list[Tensor], Ask]:
    """Stored numbers, and attention over the first n entries of every head."""
    dtype = decode.DTYPES[name]
    keys, values = (decode.normal(1, HEADS, LENGTHS[-1], DIM, dtype=dtype, seed=seed) for seed in range(2))
    q = decode.normal(1, HEADS * GROUP, 1, DIM, dtype=dtype)
    held = [x.view(HEADS, LENGTHS[-1], DIM) for x in (keys, values)]
    return held, lambda n: attend.dense(q, keys[:, :, :n], values[:, :, :n], scale=DIM**-0.5)


def integers(bits: int, groups: int = 2) -> tuple[list[Tensor], Ask]:
    """Codes with a step and an offset for every group of channels; groups=1: of a whole vector, as LVQ."""
    total = HEADS * LENGTHS[-1]
    codes = [torch.randint(0, 256, (total, DIM * bits // 8), dtype=torch.uint8) for _ in "kv"]
    scales = [torch.rand(total, groups, 2).half() for _ in "kv"]
    pairs = list(zip(codes, scales, strict=True))

    def ask(n: int) -> Any:
        keys, values = (Integers(x[: HEADS * n], own[: HEADS * n], bits, DIM) for x, own in pairs)
        return over(keys, values, n)

    return [x for pair in pairs for x in pair], ask


def codewords(is_turned: bool) -> tuple[list[Tensor], Ask]:
    """32 names of 8 bits a vector, two bits a number; keys lie as they are, or turn when they are read."""
    total, pieces = HEADS * LENGTHS[-1], 32
    names = [torch.randint(0, 256, (total, pieces), dtype=torch.uint8) for _ in "kv"]
    books = [torch.randn(HEADS, pieces, 256, DIM // pieces).half() for _ in "kv"]
    rope = Rope(10000.0 ** -(torch.arange(DIM // 2) / (DIM // 2)), False)

    def ask(n: int) -> Any:
        places = torch.arange(n, dtype=torch.int32).repeat(HEADS)
        keys, values = (
            Codewords(x[: HEADS * n], book, DIM, turn=(places, rope) if is_turned and i == 0 else None)
            for i, (x, book) in enumerate(zip(names, books, strict=True))
        )
        return over(keys, values, n)

    return names, ask


def over(keys: Any, values: Any, n: int) -> Any:
    """Attention over n coded entries of every head."""
    q = decode.normal(1, HEADS * GROUP, 1, DIM)
    found = coded.attend(q, keys, values, bounds=[n * i for i in range(HEADS + 1)], scale=DIM**-0.5)
    assert found is not None, "what is timed must be the kernel"
    return found


def read(held: list[Tensor], n: int) -> list[Tensor]:
    """The bytes of the first n entries of every head, added up."""
    share = n / LENGTHS[-1]
    flat = [x.view(torch.uint8).view(-1) for x in held]
    return [x[: int(len(x) * share)].view(torch.float32).sum() for x in flat]


def roofline(name: str, make: Callable[[], tuple[list[Tensor], Ask]]) -> cases.Figure:
    """One way of storing at all lengths."""
    held, ask = make()
    sides: dict[str, dict[str, Any]] = {}
    for n in LENGTHS:
        times = cases.alternate({"kernel": partial(ask, n), "read": partial(read, held, n)}, ROUNDS)
        ours = cases.summary(times["kernel"])
        n_bytes = sum(x.nbytes for x in held) * n // LENGTHS[-1]
        share = cases.median(times["read"]) / cases.median(times["kernel"])
        sides[f"{n // 1024}k"] = {**ours, "bytes": n_bytes, "read_ms": 1e3 * cases.median(times["read"])}
        sides[f"{n // 1024}k"]["share"] = share
    took = {n: sides[f"{n // 1024}k"]["median_ms"] for n in LENGTHS}
    targets = []
    if name in MOST:
        side = sides[f"{LONG // 1024}k"]
        ratio = side["median_ms"] / side["read_ms"]
        targets.append(cases.Target(f"{name} at 32k: time of reading once", ratio, MOST[name]))
    settings = {"heads": HEADS, "group": GROUP, "head_dim": DIM, "threads": torch.get_num_threads()}
    exponent = round(slope([n for n in LENGTHS if n >= FITTED], took), 3)
    return cases.Figure({**settings, "stored": name, "exponent": exponent}, sides, targets)


def slope(lengths: list[int], took: dict[int, float]) -> float:
    """Of log time over log length, by least squares."""
    xs, ys = [math.log(n) for n in lengths], [math.log(took[n]) for n in lengths]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    top = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return top / sum((x - x_mean) ** 2 for x in xs)


KINDS: dict[str, Callable[[], tuple[list[Tensor], Ask]]] = {
    **{name: partial(raw, name) for name in decode.DTYPES},
    **{f"int{bits}": partial(integers, bits) for bits in (8, 4, 2)},
    "LVQ 8": partial(integers, 8, groups=1),
    "LVQ 4": partial(integers, 4, groups=1),
    "PQ 2, keys as stored": partial(codewords, False),
    "PQ 2, keys turned": partial(codewords, True),
}
CASES: dict[str, cases.Case] = {
    name.replace(",", "").replace(" ", "-"): partial(roofline, name, make) for name, make in KINDS.items()
}

if __name__ == "__main__":
    sys.exit(cases.main("roofline", CASES))
