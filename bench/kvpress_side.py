"""Runs inside the environment of kvpress: which positions its presses keep, and what is answered from them.

    PYTHON bench/kvpress_side.py REQUEST ANSWER

REQUEST is JSON: {"model": folder, "documents": [[id, …], …], "asks": per document [[press, ratio, window],
…]} and for answers "exams": per document [[question ids, answer ids], …]. ANSWER gets a list of {"press",
"ratio", "document"} with "kept": [layer][kv head][position, …], ascending, found by comparing the kept keys,
bit for bit, with those of a run without a press; or with "right": one truth per exam. Imports nothing of
keyvalise.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import kvpress
import torch
from transformers import AutoModelForCausalLM, DynamicCache


def _snapkv(ratio: float, window: int) -> Any:
    return kvpress.SnapKVPress(compression_ratio=ratio, window_size=window, kernel_size=5)


PRESSES = {
    "streaming": lambda ratio, _: kvpress.StreamingLLMPress(compression_ratio=ratio, n_sink=4),
    "observed": lambda ratio, _: kvpress.ObservedAttentionPress(compression_ratio=ratio),
    "snapkv": _snapkv,
    "tova": lambda ratio, _: kvpress.TOVAPress(compression_ratio=ratio),
    "knorm": lambda ratio, _: kvpress.KnormPress(compression_ratio=ratio),
    "keydiff": lambda ratio, _: kvpress.KeyDiffPress(compression_ratio=ratio),
    "random": lambda ratio, _: kvpress.RandomPress(compression_ratio=ratio, seed=0),
    "expected": lambda ratio, _: kvpress.ExpectedAttentionPress(compression_ratio=ratio),
    "pyramidkv": lambda ratio, window: kvpress.PyramidKVPress(
        compression_ratio=ratio, window_size=window, kernel_size=5
    ),
    "criticalkv": lambda ratio, window: kvpress.CriticalKVPress(_snapkv(ratio, window)),
    "adakv": lambda ratio, window: kvpress.AdaKVPress(_snapkv(ratio, window)),
    "criticalkv, adaptive": lambda ratio, window: kvpress.CriticalAdaKVPress(_snapkv(ratio, window)),
}
"""Row → press of a ratio and a window."""


def read(model: Any, ids: list[int], press: Any = None) -> DynamicCache:
    """A cache after a prefill."""
    cache = DynamicCache()
    with torch.no_grad():
        if press is None:
            model(torch.tensor([ids]), past_key_values=cache)
        else:
            with press(model):
                model(torch.tensor([ids]), past_key_values=cache)
    return cache


def keys_of(model: Any, ids: list[int], press: Any = None) -> list[torch.Tensor]:
    """Keys [H, T, D] of every layer after a prefill."""
    return [layer.keys[0] for layer in read(model, ids, press).layers]


def positions(kept: torch.Tensor, full: torch.Tensor) -> list[list[int]]:
    """Per head, where the kept keys stand among all."""
    found = []
    for mine, whole in zip(kept, full, strict=True):
        where = {row.numpy().tobytes(): i for i, row in enumerate(whole)}
        found.append(sorted(where[row.numpy().tobytes()] for row in mine))
    return found


def is_right(model: Any, cache: DynamicCache, n_seen: int, exam: list[list[int]]) -> bool:
    """Whether the greedy answer is the expected one: each of its tokens the likeliest behind those before."""
    question, answer = exam
    text, best, cache = [*question, *answer[:-1]], [], copy.deepcopy(cache)
    # The host makes one mask for all layers; where these differ in length, tokens come one by one instead.
    is_even = len({layer.keys.shape[2] for layer in cache.layers}) == 1
    step = len(text) if is_even else 1
    for begin in range(0, len(text), step):
        ids = torch.tensor([text[begin : begin + step]])
        place = torch.arange(n_seen + begin, n_seen + begin + ids.shape[1])[None]
        with torch.no_grad():
            best += model(ids, past_key_values=cache, position_ids=place).logits[0].argmax(-1).tolist()
    return best[len(question) - 1 : len(question) - 1 + len(answer)] == answer


def answers(model: Any, ids: list[int], press: Any, exams: list[list[list[int]]]) -> list[bool]:
    """Right or wrong for every exam; presses that only mask leave their marks on the modules until then."""
    cache = read(model, ids, press)
    found = [is_right(model, cache, len(ids), exam) for exam in exams]
    for module in model.modules():
        if getattr(module, "masked_key_indices", None) is not None:
            module.masked_key_indices = None
    return found


def main(request: Path, answer: Path) -> None:
    """Answer every ask on every document."""
    asked = json.loads(request.read_text())
    found = []
    for attention in ("sdpa", "eager"):
        model = AutoModelForCausalLM.from_pretrained(
            asked["model"], attn_implementation=attention, dtype="float32"
        )
        model.eval()
        for i, ids in enumerate(asked["documents"]):
            asks = [ask for ask in asked["asks"][i] if (ask[0] == "observed") == (attention == "eager")]
            full = None if "exams" in asked else keys_of(model, ids)
            for name, ratio, window in asks:
                line = {"press": name, "ratio": ratio, "document": i}
                press = PRESSES[name](ratio, window)
                if full is None:
                    line["right"] = answers(model, ids, press, asked["exams"][i])
                else:
                    kept = keys_of(model, ids, press)
                    line["kept"] = [positions(mine, whole) for mine, whole in zip(kept, full, strict=True)]
                found.append(line)
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
