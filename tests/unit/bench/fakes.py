"""Made-up results, for tests that measure nothing."""

from __future__ import annotations

from typing import Any

from keyvalise.bench.results import Result

DOCUMENT = {"task": "needle", "kind": "sparse", "tokens": 512, "seed": 1, "most_questions": 4}
SETTINGS = {"model": "reference", "dtype": "float16", "query_aware": False}


def result(recipe: str, right: str, *, n_bytes: int = 1000, seed: int = 1, **more: Any) -> Result:
    """A result whose right answers are the 1s of a text."""
    flags = tuple(letter == "1" for letter in right)
    given = {
        "n_tokens": 510,
        "held_bytes": n_bytes,
        "share": n_bytes / 8000,
        "right": flags,
        "answers": tuple("ab"[flag] for flag in flags),
        "error": 0.0 if recipe == "full" else 0.25,
        "prefill_s": 0.5,
        "decode_tokens_per_s": 40.0,
        "peak_rss_bytes": 3 * 2**20,
        "fields": {"keys": n_bytes // 2, "values": n_bytes // 2},
        "layers": {"0": n_bytes},
        "entries": [[7, 9]],
        "kept": [[[0.0, 1.0, 0.5], [1.0, 0.25, 0.0]]],
        "machine": {"torch": "2"},
    }
    document = {**DOCUMENT, "seed": seed}
    return Result(f"{recipe} {seed}", document, SETTINGS, recipe, **{**given, **more})


def refusal(recipe: str, reason: str) -> Result:
    """A result of a recipe that cannot be built."""
    return Result(f"{recipe} refused", DOCUMENT, SETTINGS, recipe, refused=reason)
