"""Runs inside the environment of kvpress: which positions its presses keep.

    PYTHON bench/kvpress_side.py REQUEST ANSWER

REQUEST is JSON: {"model": folder, "documents": [[id, …], …], "asks": [[press, ratio], …]}. ANSWER gets a list
of {"press", "ratio", "document", "kept": [layer][kv head][position, …]}, positions ascending. They are found
by comparing the kept keys, bit for bit, with those of a run without a press. Imports nothing of keyvalise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import kvpress
import torch
from transformers import AutoModelForCausalLM, DynamicCache

PRESSES = {
    "streaming": lambda ratio: kvpress.StreamingLLMPress(compression_ratio=ratio, n_sink=4),
    "observed": lambda ratio: kvpress.ObservedAttentionPress(compression_ratio=ratio),
    "snapkv": lambda ratio: kvpress.SnapKVPress(compression_ratio=ratio, window_size=32, kernel_size=5),
    "tova": lambda ratio: kvpress.TOVAPress(compression_ratio=ratio),
    "knorm": lambda ratio: kvpress.KnormPress(compression_ratio=ratio),
    "keydiff": lambda ratio: kvpress.KeyDiffPress(compression_ratio=ratio),
}


def keys_of(model: Any, ids: list[int], press: Any = None) -> list[torch.Tensor]:
    """Keys [H, T, D] of every layer after a prefill."""
    cache = DynamicCache()
    with torch.no_grad():
        if press is None:
            model(torch.tensor([ids]), past_key_values=cache)
        else:
            with press(model):
                model(torch.tensor([ids]), past_key_values=cache)
    return [layer.keys[0] for layer in cache.layers]


def positions(kept: torch.Tensor, full: torch.Tensor) -> list[list[int]]:
    """Per head, where the kept keys stand among all."""
    found = []
    for mine, whole in zip(kept, full, strict=True):
        where = {row.numpy().tobytes(): i for i, row in enumerate(whole)}
        found.append(sorted(where[row.numpy().tobytes()] for row in mine))
    return found


def main(request: Path, answer: Path) -> None:
    """Answer every ask on every document."""
    asked = json.loads(request.read_text())
    answers = []
    for attention in ("sdpa", "eager"):
        asks = [ask for ask in asked["asks"] if (ask[0] == "observed") == (attention == "eager")]
        model = AutoModelForCausalLM.from_pretrained(
            asked["model"], attn_implementation=attention, dtype="float32"
        )
        model.eval()
        for i, ids in enumerate(asked["documents"]):
            full = keys_of(model, ids)
            for name, ratio in asks:
                kept = keys_of(model, ids, PRESSES[name](ratio))
                layers = [positions(mine, whole) for mine, whole in zip(kept, full, strict=True)]
                answers.append({"press": name, "ratio": ratio, "document": i, "kept": layers})
    answer.write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
