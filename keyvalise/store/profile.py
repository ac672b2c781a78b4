"""Published score files of heads and layers, read by content, as assets of one form.

    gates      TSV, one row per layer, one column per kv head (learned gates; clipped to 0 … 1)
    scores     JSON {"layer-head": [one number per trial]}, query heads (their mean counts)
    ranks      JSON {"layer": [all query heads, the best first]}
    sets       JSON {"layer": [kv heads]}, or a torch file {kind: {layer: [kv heads]}}
    errors     JSON {data set: [one number per layer], "avg_score": …}
    dropped    JSON [one number per layer]: the share that is dropped

What a file means is told by what stands in it, never by its name.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError

PAIR, WHOLE = re.compile(r"^\d+-\d+$"), re.compile(r"^\d+$")


def read(path: Path) -> Asset:
    """An asset of ours, or a published file as one: tensor "heads" [L, Hq | H] or "layers" [L].

    Raises   AssetError where nothing is recognised, or rows and columns do not agree
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AssetError(f"cannot read the profile {path}: {error.strerror or error}") from None
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _heads("sets", *_torch_sets(path))
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return asset.read(path)
    if not text:
        raise AssetError(f"the profile {path} is empty")
    try:
        return _from_json(path, json.loads(text)) if text[0] in "[{" else _heads("gates", _table(text), "kv")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, AssetError):
            raise
        raise AssetError(f"the profile {path} is no score file that is known here: {error}") from None


def _heads(form: str, values: Tensor, granularity: str) -> Asset:
    if values.ndim != 2 or not values.numel() or not bool(torch.isfinite(values).all()):
        raise ValueError("scores of heads must be finite numbers, one row per layer")
    return Asset("heads", {"heads": values}, {"form": form, "granularity": granularity})


def _layers(form: str, values: Tensor) -> Asset:
    if values.ndim != 1 or not values.numel() or not bool(torch.isfinite(values).all()):
        raise ValueError("scores of layers must be finite numbers, one per layer")
    return Asset("layers", {"layers": values}, {"form": form, "granularity": "layer"})


def _table(text: str) -> Tensor:
    rows = [[float(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter="\t") if row]
    if len({len(row) for row in rows}) != 1:
        raise ValueError("its rows are not equally long")
    return torch.tensor(rows, dtype=torch.float64).clamp(0, 1).float()


def _from_json(path: Path, data: Any) -> Asset:
    if isinstance(data, list):
        return _layers("dropped", torch.tensor([float(x) for x in data]))
    if "avg_score" in data:
        return _layers("errors", torch.tensor([float(x) for x in data["avg_score"]]))
    if all(PAIR.match(key) for key in data):
        return _heads("scores", _of_pairs(data), "q")
    if all(WHOLE.match(key) for key in data):
        lists = {int(key): [int(head) for head in heads] for key, heads in data.items()}
        is_ranked = len({len(heads) for heads in lists.values()}) == 1 and all(
            sorted(heads) == list(range(len(heads))) for heads in lists.values()
        )
        return _heads("ranks", _of_ranks(lists), "q") if is_ranked else _heads("sets", *_of_sets(lists))
    raise AssetError(f"the profile {path} is no score file that is known here")


def _of_pairs(data: dict[str, Any]) -> Tensor:
    places = {tuple(map(int, key.split("-"))): trials for key, trials in data.items()}
    shape = tuple(max(axis) + 1 for axis in zip(*places, strict=True))
    values = torch.full(shape, torch.nan)
    for place, trials in places.items():
        values[place] = sum(trials) / len(trials) if isinstance(trials, list) else float(trials)
    return values


def _of_ranks(lists: dict[int, list[int]]) -> Tensor:
    """The best head scores 1, the last 1 / n."""
    n = len(next(iter(lists.values())))
    values = torch.full((max(lists) + 1, n), torch.nan)
    for layer, heads in lists.items():
        values[layer, heads] = torch.arange(n, 0, -1) / n
    return values


def _of_sets(lists: dict[int, list[int]]) -> tuple[Tensor, str]:
    """1 for every named head; layers and heads behind the last named one are not known to the file."""
    n_heads = max((head for heads in lists.values() for head in heads), default=-1) + 1
    values = torch.zeros(max(lists) + 1, n_heads)
    for layer, heads in lists.items():
        values[layer, heads] = 1
    return values, "kv"


def _torch_sets(path: Path) -> tuple[Tensor, str]:
    try:
        data = torch.load(path, weights_only=True)
        lists: dict[int, set[int]] = {}
        for layers in data.values():
            for layer, heads in layers.items():
                lists.setdefault(int(layer), set()).update(int(head) for head in heads)
        return _of_sets({layer: sorted(heads) for layer, heads in lists.items()})
    except Exception as error:
        raise AssetError(f"the profile {path} holds no sets of heads: {str(error).splitlines()[0]}") from None
