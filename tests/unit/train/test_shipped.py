"""What was trained for the reference model: found by its recipes, and telling which heads matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise.host import assets
from keyvalise.store import asset
from keyvalise.train import duo, lessons
from keyvalise.train.attention import served
from keyvalise.train.gates import Gates

GATES = ("duo", "rlkv", "rlkv_surrogate")
KINDS = {**dict.fromkeys(GATES, "heads"), "eviction_error": "layers", "prefix": "dropped"}
RECIPES = {"eviction_error": "compresskv", "prefix": "prefixkv"}


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return keyvalise.reference()


@pytest.fixture(autouse=True)
def no_other_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the package ships is found, whatever other tests have measured."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))


@pytest.mark.parametrize("name", KINDS)
def test_recipes_find_what_was_trained(name: str, loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    made = asset.read(assets.SHIPPED / assets.fingerprint(model) / f"{name}.safetensors")
    assert made.kind == KINDS[name] and made.header["model"] == assets.fingerprint(model)
    assert made.header["split"] == "train" and {"steps", "seed", "lengths", "tasks"} <= set(made.header)
    (values,) = made.tensors.values()
    assert values.shape == ((4, 4) if name in GATES else (4,))
    assert float(values.min()) >= 0 and float(values.max()) <= 1
    cache = keyvalise.KVCache(model, f"{RECIPES.get(name, name)} @ 25%")
    held = cache.shared.fixed[name]
    assert torch.equal(next(iter(held.values())), values)


def test_profiles_of_layers_are_normalised(loaded: tuple[Any, Any]) -> None:
    folder = assets.SHIPPED / assets.fingerprint(loaded[0])
    error, drops = (
        asset.read(folder / f"{name}.safetensors").tensors["layers"] for name in ("eviction_error", "prefix")
    )
    assert float(error.sum()) == pytest.approx(1, abs=1e-5)
    assert float(drops.mean()) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("name", GATES)
def test_without_the_highest_gates_nothing_is_found(name: str, loaded: tuple[Any, Any]) -> None:
    """The top heads streaming, the model fails; as many of the last ones streaming, it hardly notices."""
    model, tokenizer = loaded
    path = assets.SHIPPED / assets.fingerprint(model) / f"{name}.safetensors"
    order = asset.read(path).tensors["heads"].flatten().argsort(descending=True)
    page = lessons.pages(model, tokenizer, duo.TASKS, (256, 256), n=4, seed=99)
    shares = []
    for closed in (order[:4], order[-8:]):
        gates = Gates.open(model, 8, 32)
        with torch.no_grad():
            gates.values.flatten()[closed] = 0
        with served(model, gates.both):
            shares.append(sum(lessons.right(model, page(step)) for step in range(4)) / 4)
    assert shares[0] < 0.3 and shares[1] > 0.9


@pytest.mark.parametrize("name", GATES)
def test_gates_agree_with_retrieval_heads(name: str, loaded: tuple[Any, Any]) -> None:
    folder = assets.SHIPPED / assets.fingerprint(loaded[0])
    gates = asset.read(folder / f"{name}.safetensors").tensors["heads"].flatten()
    scores = asset.read(folder / "retrieval.safetensors").tensors["heads"].unflatten(1, (4, 2)).amax(-1)
    assert float(torch.corrcoef(torch.stack([gates, scores.flatten()]))[0, 1]) > 0.3
