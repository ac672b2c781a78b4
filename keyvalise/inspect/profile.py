"""A model's heads, measured and kept as assets that any allocator can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from keyvalise.host import assets
from keyvalise.host.model import text_config
from keyvalise.inspect import heads, repeats
from keyvalise.store import asset
from keyvalise.store.asset import Asset

BEST = 8
"""Heads of the evaluators' layer."""


def measure(
    model: Any,
    tokenizer: Any,
    *,
    tokens: int = 1024,
    n: int = 50,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(name → scores [L, Hq | H], facts) of every kind of head, on n needles and one repeated sequence.

    Raises   InputError where the model answers no needle
    """
    found = heads.measure(
        model, tokenizer, heads.needles(model, tokenizer, tokens=tokens, n=n, seed=seed), progress
    )
    copied = repeats.measure(model, tokenizer, length=max(16, tokens // 8), seed=seed)
    scores = {**found.scores, **copied}
    group = text_config(model).num_attention_heads // kv_heads(model)
    echo, induction = (copied[name].unflatten(1, (-1, group)).amax(-1) for name in ("echo", "induction"))
    scores["razor"] = repeats.razor(echo, induction)
    scores["evaluators"] = _best_layer(scores["evaluators"])
    facts = {
        "tokens": tokens,
        "needles": found.n_trials,
        "right": found.n_right,
        "seed": seed,
        "split": "train",
    }
    return scores, facts


def kv_heads(model: Any) -> int:
    """Key-value heads of a model."""
    config = text_config(model)
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _best_layer(scores: Tensor) -> Tensor:
    """Zeros but for the best heads of the layer with the largest sum."""
    layer = int(scores.sum(1).argmax())
    places = scores[layer].topk(min(BEST, scores.shape[1])).indices
    only = scores.new_zeros(scores.shape)
    only[layer, places] = scores[layer, places]
    return only


def save(model: Any, scores: dict[str, Tensor], facts: dict[str, Any], folder: Path | None = None) -> Path:
    """One asset per kind of head, in the user's folder for this model or in another; the folder.

    Raises   AssetError where it cannot be written
    """
    mark = assets.fingerprint(model)
    folder = folder or assets.home() / mark
    for name, values in scores.items():
        granularity = "kv" if values.shape[1] == kv_heads(model) and name == "razor" else "q"
        header = {"model": mark, "form": "scores", "granularity": granularity, **facts}
        asset.write(folder / f"{name}.safetensors", Asset("heads", {"heads": values.float()}, header))
    return folder
