"""Decoding against `DynamicCache` with sdpa and against transformers' quantized caches, in one process.

python bench/decode.py [CASE …] [--again] [--list]

long-*     one layer at 32k tokens     short-*     the reference model at 128 tokens
share-*    time against kept share     heads-*     ragged against uniform heads
code-*     stored in code, against transformers' quantized caches     coded-*    in code, at 32k tokens
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import cases
import models
import torch
from torch import Tensor
from transformers.cache_utils import QuantizedCache

from keyvalise.host.cache import KVCache

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
N_LONG = 32768


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Random numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def turns(model: Any, caches: dict[str, Any], rounds: int, *, rows: int = 1, warm: int = 1) -> dict[str, Any]:
    """Alternating steps with every cache; per cache a model of its own where the value is a pair (model,
    cache).
    """
    ids = models.tokens(1, rows=rows, seed=1)
    pairs = {name: held if isinstance(held, tuple) else (model, held) for name, held in caches.items()}
    logits: dict[str, Tensor] = {}

    def run(name: str) -> None:
        logits[name] = models.step(*pairs[name], ids)

    times = cases.alternate({name: partial(run, name) for name in pairs}, rounds, warm=warm)
    first = next(iter(pairs))
    sides = {name: cases.summary(times[name]) for name in pairs}
    for name, (_, cache) in pairs.items():
        sides[name] |= {
            "bytes": models.nbytes(cache),
            "ratio": cases.paired(times[name], times[first]),
            "mean_ratio": sides[name]["mean_ms"] / sides[first]["mean_ms"],
            "cpu_ratio": sides[name]["cpu_ms"] / max(sides[first]["cpu_ms"], 1e-9),
            "logits_error": models.difference(logits[name], logits[first]),
        }
    return sides


def long(dtype_name: str) -> cases.Figure:
    """Full decode of one large layer: stock, a grouped matmul over a preallocated store, and ours."""
    dtype = DTYPES[dtype_name]
    shape = (1, models.LARGE.kv_heads, N_LONG, models.LARGE.head_dim)
    keys, values = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    model = models.llama(models.LARGE, dtype)
    matmul = models.llama(models.LARGE, dtype, attention="bench_grouped")
    ours = models.llama(models.LARGE, dtype)
    caches = {
        "stock": (model, models.fill(model, models.stock(model), keys, values)),
        "matmul": (matmul, models.fill(matmul, models.preallocated(matmul), keys, values)),
        "full": (ours, models.fill(ours, KVCache(ours, "full"), keys, values)),
    }
    sides = turns(model, caches, 15)
    gain = 1 / sides["full"]["ratio"]
    better = sides["full"]["median_ms"] / min(sides["stock"]["median_ms"], sides["matmul"]["median_ms"])
    least = 1.0 if dtype_name == "fp16" else 3.0
    targets = [
        cases.Target(f"full at 32k, {dtype_name}: times faster than stock", gain, least, at_least=True),
        cases.Target(f"full at 32k, {dtype_name}: time of the better of stock and matmul", better, 1.0),
    ]
    settings = {
        "tokens": N_LONG,
        "dtype": dtype_name,
        "query_heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "layers": 1,
    }
    return cases.Figure(settings, sides, targets)


def short(recipe: str) -> cases.Figure:
    """200 alternating steps of the reference model from 128 tokens on."""
    from keyvalise.reference import reference

    model, _ = reference()
    twin, _ = reference()
    ids = torch.randint(5, model.config.vocab_size, (1, 128), generator=torch.Generator().manual_seed(0))
    caches = {"stock": (model, models.stock(model)), recipe: (twin, KVCache(twin, recipe))}
    with torch.no_grad():
        for net, cache in caches.values():
            net(ids, past_key_values=cache, use_cache=True)
    sides = turns(model, caches, 200, warm=10)
    limit = 1.05 if recipe == "full" else 1.35
    target = cases.Target(f"{recipe} at 128 tokens: time of stock", sides[recipe]["ratio"], limit)
    return cases.Figure(
        {"tokens": 128, "dtype": "fp32", "model": "reference", "recipe": recipe}, sides, [target]
    )


def share(dtype_name: str) -> cases.Figure:
    """Time of a step against the share of 32k tokens that is kept."""
    dtype = DTYPES[dtype_name]
    shape = (1, models.LARGE.kv_heads, N_LONG, models.LARGE.head_dim)
    keys, values = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    model = models.llama(models.LARGE, dtype)
    recipes = ["full", *(f"knorm @ {n}%" for n in (50, 25, 10, 5))]
    caches = {recipe: models.fill(model, KVCache(model, recipe), keys, values) for recipe in recipes}
    sides = turns(model, caches, 15)
    times = [sides[recipe]["median_ms"] for recipe in recipes]
    worst = max(b / a for a, b in itertools.pairwise(times))
    target = cases.Target("time of a step, each share against the next larger", worst, 1.0)
    return cases.Figure({"tokens": N_LONG, "dtype": dtype_name}, sides, [target])


def ragged(n_kept: int, limit: float, dtype_name: str) -> cases.Figure:
    """8 rows of 8 heads that keep very different counts, against equal counts of the same total."""
    dtype, rows, n = DTYPES[dtype_name], 8, 2 * n_kept
    keys = normal(rows, models.LARGE.kv_heads, n, models.LARGE.head_dim)
    # Heads of shorter keys win more of what the layer shares out: from 0.7 to 1.3 times the usual length.
    keys *= torch.linspace(0.97, 1.03, models.LARGE.kv_heads)[:, None, None]
    keys = keys.to(dtype)
    values = normal(rows, models.LARGE.kv_heads, n, models.LARGE.head_dim, dtype=dtype, seed=1)
    model = models.llama(models.LARGE, dtype)
    recipes = {"uniform": f"knorm @ {n_kept}tok", "ragged": f"knorm > adaptive @ {n_kept}tok"}
    caches = {
        name: models.fill(model, KVCache(model, recipe), keys, values) for name, recipe in recipes.items()
    }
    counts = [len(head) for row in caches["ragged"].kept_positions(0) for head in row]
    sides = turns(model, caches, 21, rows=rows, warm=2)
    what = f"ragged heads, {n_kept} on average, {dtype_name}: time of uniform heads"
    settings = {"rows": rows, "kv_heads": 8, "kept": n_kept, "least": min(counts), "most": max(counts)}
    target = cases.Target(what, sides["ragged"]["ratio"], limit)
    return cases.Figure(settings | {"dtype": dtype_name}, sides, [target])


BACKENDS = {"hqq": "hqq", "quanto": "optimum.quanto"}


def quantized(n: int) -> cases.Figure:
    """Bytes, time and error of stored codes; 160 steps, so that every rival quantizes anew at least once."""
    model, stock = models.llama(models.SMALL), models.llama(models.SMALL)
    caches: dict[str, Any] = {
        "stock": (stock, models.stock(stock)),
        "fp8 (transformers)": (stock, _rival(stock, "fp8")),
    }
    for backend, bits in (("hqq", 8), ("hqq", 4), ("hqq", 2), ("quanto", 4), ("quanto", 2)):
        if _has(BACKENDS[backend]):
            caches[f"{backend} {bits} bit (transformers)"] = (stock, _rival(stock, backend, bits))
    for recipe in ("int8", "int4", "int2", "kivi"):
        caches[recipe] = (model, KVCache(model, recipe))
    ids = models.tokens(n)
    with torch.no_grad():
        for net, cache in caches.values():
            net(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    sides = turns(model, caches, 160, warm=4)
    fp8 = sides["fp8 (transformers)"]
    targets = [
        cases.Target("int8 against transformers' fp8: time", sides["int8"]["mean_ms"] / fp8["mean_ms"], 1.0),
        cases.Target(
            "int8 against transformers' fp8: error", sides["int8"]["logits_error"] / fp8["logits_error"], 1.0
        ),
    ]
    missing = [name for name, module in BACKENDS.items() if not _has(module)]
    notes = [f"not installed: {', '.join(missing)}"] if missing else []
    return cases.Figure(
        {"tokens": n, "dtype": "fp32", "layers": 4, "kv_heads": 4, "head_dim": 64}, sides, targets, notes
    )


def coded(dtype_name: str) -> cases.Figure:
    """One large layer at 32k tokens whose keys and values are integers, against the stock cache."""
    dtype, recipes = DTYPES[dtype_name], ("full", "int8", "int4", "int2", "kivi")
    shape = (1, models.LARGE.kv_heads, N_LONG, models.LARGE.head_dim)
    keys, values = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    model, ours = models.llama(models.LARGE, dtype), models.llama(models.LARGE, dtype)
    caches: dict[str, Any] = {"stock": (model, models.fill(model, models.stock(model), keys, values))}
    for recipe in recipes:
        caches[recipe] = (ours, models.fill(ours, KVCache(ours, recipe), keys, values))
    sides = turns(model, caches, 15)
    limits = {recipe: 1 / 12 if recipe == "int4" else 1.0 for recipe in recipes[1:]}
    targets = [
        cases.Target(f"{recipe} at 32k, {dtype_name}: time of stock", sides[recipe]["ratio"], limit)
        for recipe, limit in limits.items()
    ]
    if dtype_name == "fp32":
        half = sides["int4"]["median_ms"] / sides["full"]["median_ms"]
        targets.append(cases.Target(f"int4 at 32k, {dtype_name}: time of full", half, 0.5))
    return cases.Figure({"tokens": N_LONG, "dtype": dtype_name, "layers": 1}, sides, targets)


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _rival(model: Any, backend: str, bits: int | None = None) -> QuantizedCache:
    options = {} if bits is None else {"nbits": bits}
    if backend == "quanto":
        options |= {"axis_key": 0, "axis_value": 0}
    return QuantizedCache(backend, model.config, **options)


CASES: dict[str, Callable[[], cases.Figure]] = {
    **{f"long-{name}": partial(long, name) for name in DTYPES},
    **{
        f"short-{recipe.split()[0]}": partial(short, recipe)
        for recipe in (
            "full",
            "adakv @ 50%",
            "kivi",
            "int8",
            "int4",
            "snapkv @ 50%",
            "streaming @ 64tok",
            "h2o @ 50%",
        )
    },
    **{f"share-{name}": partial(share, name) for name in ("fp32", "bf16")},
    **{f"heads-2048-{name}": partial(ragged, 2048, 1.3, name) for name in ("fp32", "bf16")},
    **{f"heads-128-{name}": partial(ragged, 128, 2.5, name) for name in ("fp32", "bf16")},
    "code-2048": partial(quantized, 2048),
    **{f"coded-{name}": partial(coded, name) for name in ("fp32", "bf16")},
}

if __name__ == "__main__":
    sys.exit(cases.main("decode", CASES))
