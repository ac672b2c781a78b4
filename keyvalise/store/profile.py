"""Published score files of heads and layers, read by content, as assets of one form.

    gates      TSV, one row per layer, one column per kv head (learned gates; clipped to 0 … 1)
    scores     JSON {"layer-head": [one number per trial]}, query heads (their mean counts)
    ranks      JSON {"layer": [all query heads, the best first]}
    sets       JSON {"layer": [kv heads]}, or a torch file {kind: {layer: [kv heads]}}, whose union counts
    errors     JSON {data set: [one number per layer], "avg_score": …}
    dropped    JSON [one number per layer]: the share that is dropped

What a file means is told by what stands in it, never by its name.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError

PAIR, WHOLE = re.compile(r"^\d{1,4}-\d{1,4}$"), re.compile(r"^\d{1,4}$")
MOST = 10**4
"""No model has as many layers or heads; a damaged number must not ask for the memory of one that has."""

KINDS = {"errors": "layers", "dropped": "dropped"}
"""form → kind of asset; all others are scores of heads."""


def read(path: Path) -> Asset:
    """An asset of ours, or a published file as one: tensor "heads" [L, Hq | H] or "layers" [L], float32.

    Raises   AssetError where nothing is recognised, rows and columns do not agree, or a number is none
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AssetError(f"cannot read the profile {path}: {error.strerror or error}") from None
    if asset.is_asset(data):
        return _checked(path, asset.read(path))
    try:
        return _checked(path, _published(data))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        if isinstance(error, AssetError):
            raise
        raise AssetError(f"the profile {path} is no score file that is known here: {error}") from None


def _checked(path: Path, made: Asset) -> Asset:
    """Shapes and numbers are what every profile's are."""
    for name, n_axes in (("heads", 2), ("layers", 1)):
        values = made.tensors.get(name)
        if values is None:
            continue
        if values.ndim != n_axes or not values.numel() or not bool(torch.isfinite(values).all()):
            axes = "layers and heads" if n_axes == 2 else "layers"
            raise AssetError(f"the profile {path} must hold a finite number for each of its {axes}")
    return made


def _published(data: bytes) -> Asset:
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _made("sets", _of_sets(_torch_sets(data)))
    text = data.decode("utf-8").strip()
    if not text:
        raise ValueError("it is empty")
    return _from_json(json.loads(text)) if text[0] in "[{" else _made("gates", _of_table(text))


def _made(form: str, values: Tensor) -> Asset:
    granularity = {"gates": "kv", "sets": "kv", "scores": "q", "ranks": "q"}.get(form, "layer")
    name = "layers" if granularity == "layer" else "heads"
    header = {"form": form, "granularity": granularity}
    return Asset(KINDS.get(form, "heads"), {name: values.float()}, header)


def _of_table(text: str) -> Tensor:
    rows = [[float(cell) for cell in line.split("\t")] for line in text.splitlines() if line.strip()]
    if len({len(row) for row in rows}) != 1:
        raise ValueError("its rows are not equally long")
    gates = torch.tensor(rows, dtype=torch.float64)
    # Only numbers are clipped: an infinite one is no gate that training has left a little above 1.
    return torch.where(gates.isfinite(), gates.clamp(0, 1), gates)


def _from_json(data: Any) -> Asset:
    if isinstance(data, list):
        dropped = torch.tensor([float(x) for x in data])
        if bool(((dropped < 0) | (dropped > 1)).any()):
            raise ValueError("shares that layers drop lie between 0 and 1")
        return _made("dropped", dropped)
    if "avg_score" in data:
        return _made("errors", torch.tensor([float(x) for x in data["avg_score"]]))
    if data and all(PAIR.match(key) for key in data):
        return _made("scores", _of_pairs(data))
    if not data or not all(WHOLE.match(key) for key in data):
        raise ValueError("its keys are neither layers, heads nor data sets")
    lists = {int(key): [int(head) for head in heads] for key, heads in data.items()}
    return _made("ranks", _of_ranks(lists)) if _is_ranked(lists) else _made("sets", _of_sets(lists))


def _is_ranked(lists: Mapping[int, list[int]]) -> bool:
    """Whether every layer, none left out, lists all its heads, and some layer not in their order."""
    whole = all(sorted(heads) == list(range(len(heads))) for heads in lists.values())
    n_heads = {len(heads) for heads in lists.values()}
    is_sorted = all(heads == sorted(heads) for heads in lists.values())
    return whole and len(n_heads) == 1 and not is_sorted and sorted(lists) == list(range(len(lists)))


def _of_pairs(data: Mapping[str, Any]) -> Tensor:
    places = {tuple(map(int, key.split("-"))): trials for key, trials in data.items()}
    shape = tuple(max(axis) + 1 for axis in zip(*places, strict=True))
    values = torch.full(shape, torch.nan, dtype=torch.float64)
    for (layer, head), trials in places.items():
        trials = trials if isinstance(trials, list) else [trials]
        if not trials:
            raise ValueError(f"head {layer}-{head} has no trials")
        values[layer, head] = sum(map(float, trials)) / len(trials)
    return values


def _of_ranks(lists: Mapping[int, list[int]]) -> Tensor:
    """The best head scores 1, the last 1 / n."""
    n = len(lists[0])
    values = torch.zeros(len(lists), n)
    for layer, heads in lists.items():
        values[layer, heads] = torch.arange(n, 0, -1) / n
    return values


def _of_sets(lists: Mapping[int, Iterable[int]]) -> Tensor:
    """1 for every named head; layers and heads behind the last named one are not known to the file."""
    named = [(layer, head) for layer, heads in lists.items() for head in heads]
    if not named:
        raise ValueError("it names no head")
    if min(map(min, named)) < 0 or max(map(max, named)) >= MOST:
        raise ValueError(f"layers and heads lie between 0 and {MOST - 1}")
    values = torch.zeros(max(layer for layer, _ in named) + 1, max(head for _, head in named) + 1)
    for layer, head in named:
        values[layer, head] = 1
    return values


def _torch_sets(data: bytes) -> dict[int, set[int]]:
    """Layer → heads of all kinds in a torch file, of which nothing but numbers and containers is accepted."""
    try:
        kinds = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        lists: dict[int, set[int]] = {}
        for layers in kinds.values():
            for layer, heads in layers.items():
                lists.setdefault(int(layer), set()).update(int(head) for head in heads)
        return lists
    except Exception as error:
        raise ValueError(f"it holds no sets of heads, but {type(error).__name__} when opened") from None
