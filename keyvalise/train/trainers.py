"""Which training makes which kind of asset; a new kind of trained code or transform adds one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from keyvalise.host import assets, hashes, purpose
from keyvalise.host import model as models
from keyvalise.host.purpose import Purpose
from keyvalise.recipe.object import Recipe
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train import codebooks, commuting, predictors, projections
from keyvalise.train.job import Job
from keyvalise.train.readings import Reader
from keyvalise.train.texts import Texts
from keyvalise.types import argument
from keyvalise.types.errors import AssetError, InputError
from keyvalise.types.geometry import Geometry

TRAINERS: Mapping[str, Callable[[Job], Asset]] = {
    "product": codebooks.product,
    "residual": codebooks.residual,
    "commuting": commuting.train,
    "basis": projections.basis,
    "lean": projections.lean,
    "predictors": predictors.predictors,
}
"""kind → the training that makes it."""


@dataclass(frozen=True)
class Made:
    """An asset that lies ready: its file, the hash of its content, its header; is_new: it was made just
    now.
    """

    name: str
    path: Path
    content: str
    header: Mapping[str, Any]
    is_new: bool


def wanted(recipe: Recipe, model: Any) -> list[Purpose]:
    """The assets of a recipe that are made here.

    Raises   AssetError where one that is made in another way is missing, with that way
    """
    found = [one for one in purpose.of(recipe) if one.kind in TRAINERS]
    for name, kind in recipe.assets:
        if name not in [one.name for one in found]:
            assets.find(name, model, kind)
    return found


def ready(one: Purpose, model: Any) -> Made | None:
    """The asset if there is one, None where it is to be made.

    Raises   AssetError for one that was made for something else, or is named by a hash that nothing has
    """
    try:
        path = assets.find(one.name, model, one.kind)
    except AssetError:
        if not one.name.isidentifier():
            raise
        return None
    found = asset.read(path)
    one.check(found, path)
    return Made(one.name, path, hashes.of(path), found.header, False)


def job(one: Purpose, model: Any, texts: Texts, name: str | None = None, **options: Any) -> Job:
    """What is to be made, under the name that its part asks for or another; `options` are those of Job.

    Raises   InputError for a name that is none
    """
    name = name or one.name
    if not name.isidentifier():
        raise InputError(f"assets are kept under plain words, and {name!r} is none; write one such as mine")
    reader = Reader(model, one.before, one.side == "pre", _held(one, model))
    state = assets.home() / assets.fingerprint(model) / "training"
    return Job(one, reader, texts, name, state=state, **options)


def make(job: Job) -> Made:
    """Train an asset and keep it in the user's folder.

    Raises   AssetError where it cannot be written; what the training raises
    """
    made, model = TRAINERS[str(job.purpose.kind)](job), job.reader.model
    path = assets.home() / assets.fingerprint(model) / f"{job.name}.safetensors"
    asset.write(path, made)
    job.forget()
    return Made(job.name, path, hashes.of(path), made.header, True)


def _held(one: Purpose, model: Any) -> Mapping[str, Mapping[str, Tensor]]:
    """What the assets of the transforms before the part hold."""
    layers = models.host_layers(model)
    handled = models.handled(layers)
    shape = Geometry.of(models.text_config(model), model.dtype, max(len(handled), 1))
    named = tuple(dict.fromkeys(name for part in one.before for name in argument.assets(part)))
    return assets.of(named, model, shape, handled, len(layers))
