"""Prefill of 8k tokens against `DynamicCache` with sdpa: time in turns, and the most memory held meanwhile.

    python bench/prefill.py [CASE …] [--again] [--list]

Time: one process, one forward per side and round. Memory: every side in a process of its own, which runs a
short prefill first, resets the kernel's high-water mark (`/proc/self/clear_refs`), and reads it after the
long one: transient bytes = high-water mark − resident before − bytes that the cache holds afterwards.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cases
import models
import psutil
import torch

from keyvalise.host.cache import KVCache
from tests.support import profiles

N_TOKENS = 8192
ROUNDS = 3

PROBE = "at prompt: probe > drop @ 25%"

GROUPS: dict[str, tuple[float | None, tuple[str, ...]]] = {
    "full": (1.05, ("full",)),
    "keys": (1.35, ("streaming @ 25%", "knorm @ 25%", "keydiff @ 25%")),
    "window": (1.35, ("snapkv @ 25%", "tova @ 25%", "adakv @ 25%", "pyramidkv @ 25%")),
    "moments": (1.35, ("expected @ 25%",)),
    "mass": (2.5, ("observed @ 25%", "h2o @ 25%")),
    "codes": (1.35, ("int8", "int4", "kivi")),
    "values": (None, ("vatp @ 25%", "caote @ 25%", "criticalkv @ 25%", "normxlogit @ 25%")),
    "merging": (None, ("ems @ 25%", "elastic @ 25%", "cam @ 25%")),
    "drawing": (None, ("keyformer @ 25%", "kvcrush @ 25%", "balancekv @ 25%", "weighted_random @ 25%")),
    "profiles": (
        None,
        ("locret @ 25%", "fastgen @ 25%", "ehpc @ 25%", "plphp @ 25%", "prefixkv @ 25%", PROBE),
    ),
}
"""What a recipe looks at, or does → the most time of stock if any is asked for, and recipes."""

MEASURED = (
    "stock",
    "full",
    "knorm @ 25%",
    "snapkv @ 25%",
    "adakv @ 25%",
    "observed @ 25%",
    "h2o @ 25%",
    "int4",
    "vatp @ 25%",
    "criticalkv @ 25%",
    "normxlogit @ 25%",
    "ems @ 25%",
    "keyformer @ 25%",
    "kvcrush @ 25%",
    "balancekv @ 25%",
    "locret @ 25%",
    "fastgen @ 25%",
    "ehpc @ 25%",
)
"""Sides whose memory is measured."""


def small() -> Any:
    """The model, with a profile of random numbers under every name; what profiles say costs nothing."""
    os.environ["KEYVALISE_HOME"] = _home()
    return profiles.give(models.llama(models.SMALL))


@functools.cache
def _home() -> str:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


def prefill(model: Any, recipe: str, n: int = N_TOKENS) -> Any:
    """A cache that has read n tokens."""
    cache = models.stock(model) if recipe == "stock" else KVCache(model, recipe)
    for name in cache.recipe.spans if isinstance(cache, KVCache) else ():
        cache.span(name, 0, n)
    with torch.no_grad():
        model(models.tokens(n), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def timed(group: str) -> cases.Figure:
    """Stock and the recipes of a group in turns."""
    limit, recipes = GROUPS[group]
    stock, model = models.llama(models.SMALL), small()
    held: dict[str, int] = {}

    def run(recipe: str) -> None:
        held[recipe] = models.nbytes(prefill(stock if recipe == "stock" else model, recipe))

    names = ("stock", *recipes)
    for name in names:
        prefill(stock if name == "stock" else model, name, 256)
    times = cases.alternate({name: partial(run, name) for name in names}, ROUNDS, warm=0)
    sides = {
        name: cases.summary(times[name])
        | {"bytes": held[name], "ratio": cases.paired(times[name], times["stock"])}
        for name in names
    }
    what = "prefill of 8k, {}: time of stock"
    ratios = {recipe: sides[recipe]["ratio"] for recipe in recipes}
    targets = [cases.Target(what.format(name), ratio, limit) for name, ratio in ratios.items() if limit]
    return cases.Figure(settings(), sides, targets)


def settings() -> dict[str, Any]:
    """The model that all cases share."""
    return {"tokens": N_TOKENS, "dtype": "fp32", "layers": 4, "query_heads": 8, "kv_heads": 4, "head_dim": 64}


def memory() -> cases.Figure:
    """Transient bytes of one prefill per side; stock's are what the model itself needs."""
    sides = {}
    for name in MEASURED:
        child = [sys.executable, str(Path(__file__)), "--child", name]
        answer = subprocess.run(child, capture_output=True, text=True, check=True)
        sides[name] = json.loads(answer.stdout.splitlines()[-1])
    return cases.Figure(settings(), sides)


def child(recipe: str) -> dict[str, int]:
    """Bytes of one prefill in this process."""
    model = small()
    prefill(model, recipe, 256)
    process = psutil.Process()
    is_reset = _reset_peak()
    before = process.memory_info().rss
    cache = prefill(model, recipe)
    peak = _peak() if is_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held = models.nbytes(cache)
    return {"peak_bytes": peak - before, "bytes": held, "transient_bytes": peak - before - held}


def _reset_peak() -> bool:
    """Let the kernel forget the process's largest resident size; false where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    """Largest resident size since the reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


CASES = {**{f"time-{group}": partial(timed, group) for group in GROUPS}, "memory": memory}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(sys.argv[2])))
        sys.exit(0)
    sys.exit(cases.main("prefill", CASES))
