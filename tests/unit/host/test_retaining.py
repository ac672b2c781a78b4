"""Retaining heads of a file: those of the model are taken, all others are told from them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from keyvalise import KVCache
from keyvalise.host import assets, retaining
from keyvalise.host.model import text_config
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Geometry
from tests.support import drive, profiles
from tests.support.models import tiny

RECIPE = "at prompt: retaining(head='{}') > drop @ 20tok"


def geometry(model: Any) -> Geometry:
    return Geometry.of(text_config(model))


def made(**changes: Any) -> Asset:
    found = profiles.retaining(3, geometry(tiny("llama")))
    return Asset("retaining", {**found.tensors, **changes}, dict(found.header))


def cache(path: Path, heads: Asset) -> KVCache:
    asset.write(path, heads)
    return KVCache(tiny("llama"), RECIPE.format(path))


def test_heads_of_a_file_are_those_that_are_kept(tmp_path: Path) -> None:
    calls = drive.text(63).calls(63)
    own = cache(tmp_path / "heads", made())
    named = KVCache(tiny("llama"), RECIPE.format("locret"))
    assert drive.run(tiny("llama"), own, calls).kept == drive.run(tiny("llama"), named, calls).kept
    half = Asset("retaining", {name: x.half() for name, x in made().tensors.items()}, {"activation": "silu"})
    kept = drive.run(tiny("llama"), cache(tmp_path / "half", half), calls).kept[-1]
    assert all(len(head) == 20 for rows in kept.values() for head in rows[0])


def test_only_layers_that_grow_have_heads() -> None:
    model = tiny("gemma2")
    found = retaining.fitted(Path("x"), profiles.retaining(2, geometry(model)), geometry(model), 2)
    assert set(found) == {"fc1", "fc2", "silu"}
    kept = drive.run(model, KVCache(model, RECIPE.format("locret")), drive.text(40).calls(40)).kept[-1]
    assert {layer: len(rows[0][0]) for layer, rows in kept.items()} == {1: 20, 2: 20}


FC1, FC2 = made().tensors["fc1"], made().tensors["fc2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fc1": FC1.transpose(1, 2)}, r"are transposed: fc1 must be \[L, E, 256\] and fc2 \[L, 4, E\], got"),
        ({"fc1": FC1.mT, "fc2": FC2.mT}, "are transposed"),
        ({"fc2": FC2.mT}, "are transposed"),
        (
            {"fc1": FC1[:2], "fc2": FC2[:2]},
            "are of another model: .* this one has 3 layers, 256 numbers",
        ),
        ({"fc2": FC2[:, :3]}, "are of another model: .* 4 kv heads"),
        ({"fc1": FC1[..., :-1]}, "are of another model"),
        ({"fc1": FC1[:, :-1]}, "are of another model"),
        ({"fc1": FC1[0]}, r"must hold fc1 \[L, E, I\] and fc2 \[L, H, E\]"),
        ({"fc2": torch.full_like(FC2, float("nan"))}, "a number in fc2 that is not finite; train them again"),
        ({"fc1": FC1 / 0}, "a number in fc1 that is not finite"),
        ({"fc2": FC2.int()}, "a number in fc2 that is not finite"),
    ],
)
def test_others_are_refused_in_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AssetError, match=said):
        cache(tmp_path / "heads", made(**changes))


def test_an_activation_is_named_and_known(tmp_path: Path) -> None:
    for header in ({}, {"activation": "softmax"}):
        with pytest.raises(AssetError, match=r"activation (None|softmax); it must be one of silu, gelu"):
            cache(tmp_path / "heads", Asset("retaining", made().tensors, header))
    tensors = {"fc1": FC1}
    with pytest.raises(AssetError, match="must hold fc1"):
        cache(tmp_path / "heads", Asset("retaining", tensors, {"activation": "silu"}))


def test_another_kind_another_model_and_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssetError, match="is of the kind heads, a part asks for retaining"):
        cache(tmp_path / "heads", Asset("heads", {"heads": torch.ones(3, 4)}, {}))
    with pytest.raises(AssetError, match="was made for the model 000000000000, this LlamaForCausalLM is"):
        cache(tmp_path / "heads", Asset("retaining", made().tensors, {**made().header, "model": "0" * 12}))
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    other = copy.deepcopy(tiny("llama"))
    with pytest.raises(AssetError, match=r"no asset 'locret' .* train one with `python -m keyvalise"):
        KVCache(other, "locret")
