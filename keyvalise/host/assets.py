"""Assets for a model: found by file or by name, checked against its shapes, cut to its handled layers.

An asset that is kept for a model lies under the model's fingerprint, in the package or in the user's folder;
what serves all models lies in the package.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import axes, hashes, purpose, retaining
from keyvalise.store import profile
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Geometry

SHIPPED = Path(__file__).parents[1] / "assets"
UNIVERSAL = "universal"
"""The shipped folder of what serves all models."""

VARIABLE = "KEYVALISE_HOME"
"""Environment variable: the user's folder, ~/.cache/keyvalise by default."""

WAY = "measure one with `keyvalise profile`"
WAYS = {
    "duo": "train one with `python -m keyvalise.train.duo`",
    "rlkv": "train one with `python -m keyvalise.train.rlkv`",
    "rlkv_surrogate": "train one with `python -m keyvalise.train.rlkv --surrogate`",
    "locret": "train one with `python -m keyvalise.train.locret`",
    "eviction_error": "measure one with `python -m keyvalise.train.calibrate eviction_error`",
    "prefix": "measure one with `python -m keyvalise.train.calibrate prefix`",
}
"""How an asset of a name is made, where it is made in another way."""

CALIBRATED = ("product", "residual", "commuting", "basis", "lean", "predictors")
"""Kinds of assets that one command makes for every recipe."""

SAMPLES = 64
"""Numbers of every weight whose signs go into a fingerprint."""


def home() -> Path:
    """The user's folder of assets."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "keyvalise") / "assets"


def fingerprint(model: Any) -> str:
    """Twelve hexadecimal digits of a model's kind, its shapes, and the signs of a sample of its weights.

    Signs alone, so that a copy in 16 bits is the same model.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        places = torch.linspace(0, flat.numel() - 1, min(SAMPLES, flat.numel()), device=flat.device).long()
        digest.update(json.dumps([name, list(weight.shape)]).encode())
        digest.update(bytes(flat[places].signbit().byte().tolist()))
    return digest.hexdigest()[:12]


def folders(model: Any) -> tuple[Path, Path]:
    """Where assets of a model lie: the user's own first, then the shipped ones."""
    mark = fingerprint(model)
    return home() / mark, SHIPPED / mark


def find(name: str, model: Any, kind: str | None = None) -> Path:
    """The file of an asset: one that is kept for this or any model under a plain name, or a path as it is;
    with @ and digits of its content's hash behind, that very content.

    Raises   AssetError where there is none, with the way to make one of this kind
    """
    base, digits = hashes.split(name)
    kept = folders(model)
    known = sorted({path for folder in kept for path in folder.glob("*.safetensors")})
    places = [folder / f"{base}.safetensors" for folder in (*kept, SHIPPED / UNIVERSAL)]
    places = [*(places if base.isidentifier() else ()), Path(base).expanduser()]
    if digits:
        found = hashes.first((*places, *known), digits)
    else:
        found = next((path for path in places if base and path.is_file()), None)
    if found is not None:
        return found
    way = WAYS.get(base, purpose.CALIBRATE if kind in CALIBRATED else WAY)
    lies = next((path for path in places if digits and base and path.is_file()), None)
    if lies is not None:
        raise AssetError(
            f"the content of the asset {lies} hashes to {hashes.of(lies)[: hashes.DIGITS]}, the recipe names "
            f"{name!r}; name what there is, or put the file there that is meant"
        )
    raise AssetError(
        f"no asset {name!r} for this {type(model).__name__}; "
        f"kept for it: {', '.join(sorted({path.stem for path in known})) or 'none'}; {way}, or name a file"
    )


def of(
    wanted: tuple[tuple[str, str | None], ...],
    model: Any,
    geometry: Geometry,
    indices: tuple[int, ...],
    n_layers: int,
    *,
    purposes: Sequence[purpose.Purpose] = (),
) -> dict[str, Mapping[str, Tensor]]:
    """name → tensors of every asset, on the model's device, layers first and only the handled ones.

    wanted   (name, kind); kind None: any;  purposes: what trained ones are wanted for

    Raises   AssetError where one is missing, damaged, of another kind, or of another shape than the model
    """
    found: dict[str, Mapping[str, Tensor]] = {}
    for name, kind in wanted:
        path = find(name, model, kind)
        made = profile.read(path)
        _check(path, made, kind, model)
        is_universal = path.parent.name == UNIVERSAL
        for mine in (one for one in purposes if one.name == name and not is_universal):
            mine.check(made, path)
        if made.kind == retaining.KIND or axes.FIELD in made.header:
            fit = retaining.fitted if made.kind == retaining.KIND else axes.fitted
            tensors = fit(path, made, geometry, len(indices))
            found[name] = {key: tensor.to(model.device) for key, tensor in tensors.items()}
            continue
        found[name] = {
            key: (tensor[list(indices)] if key in ("heads", "layers") else tensor).to(model.device)
            for key, tensor in _fitted(path, made, geometry, n_layers).items()
        }
    return found


def _check(path: Path, made: Asset, kind: str | None, model: Any) -> None:
    """An asset is of the kind a part asks for, and of this model where it says for which it was made."""
    if kind is not None and made.kind != kind:
        raise AssetError(f"the asset {path} is of the kind {made.kind}, a part asks for {kind}")
    mark = made.header.get("model")
    if mark is not None and mark != fingerprint(model):
        raise AssetError(
            f"the asset {path} was made for the model {mark}, "
            f"this {type(model).__name__} is {fingerprint(model)}"
        )


def _fitted(path: Path, made: Asset, geometry: Geometry, n_layers: int) -> Mapping[str, Tensor]:
    """The tensors of an asset, where what is per layer [L] or per head [L, Hq | H] has the model's shape."""
    if made.header.get("form") == "sets":
        return {"heads": _padded(path, made.tensors["heads"], n_layers, geometry.n_kv_heads)}
    by = {"q": (geometry.n_query_heads,), "kv": (geometry.n_kv_heads,)}
    kind = str(made.header.get("granularity"))
    heads = by.get(kind, (geometry.n_query_heads, geometry.n_kv_heads))
    wanted: dict[str, set[tuple[int, ...]]] = {
        "layers": {(n_layers,)},
        "heads": {(n_layers, n) for n in heads},
    }
    for key, tensor in made.tensors.items():
        shape = tuple(tensor.shape)
        if shape in wanted.get(key, {shape}):
            continue
        if shape[::-1] in wanted[key]:
            raise AssetError(f"the profile {path} has heads where layers belong; turn its rows into columns")
        word = {"q": "query ", "kv": "kv "}.get(kind, "")
        holds = f"{shape[0]} layers" + (f" of {shape[1]} {word}heads" if key == "heads" else "")
        raise AssetError(
            f"the profile {path} is of another model: it holds {holds}, the model has {n_layers} layers of "
            f"{geometry.n_query_heads} query and {geometry.n_kv_heads} kv heads"
        )
    return made.tensors


def _padded(path: Path, sets: Tensor, n_layers: int, n_heads: int) -> Tensor:
    """Sets of heads name only members: what they do not name is no member."""
    if sets.shape[0] > n_layers or sets.shape[1] > n_heads:
        raise AssetError(
            f"the profile {path} names layer {sets.shape[0] - 1} and head {sets.shape[1] - 1}; the model has "
            f"{n_layers} layers of {n_heads} kv heads"
        )
    padded = torch.zeros(n_layers, n_heads)
    padded[: sets.shape[0], : sets.shape[1]] = sets
    return padded
