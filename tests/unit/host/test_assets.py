"""Assets for a model: found by name or file, and refused where they are another model's."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

import keyvalise
from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Geometry
from tests.support import drive, torch_files
from tests.support.models import tiny

GEOMETRY = Geometry(3, 8, 4, 16, 16, torch.float32, 0.25)
"""Of the tiny Llama."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own; the folder for the tiny Llama in it."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    return tmp_path / "assets" / assets.fingerprint(tiny("llama"))


def of(name: str, kind: str | None = None, indices: tuple[int, ...] = (0, 1, 2)) -> dict[str, torch.Tensor]:
    model = tiny("llama")
    return dict(assets.of(((name, kind),), model, GEOMETRY, indices, 3)[name])


def heads(width: int, layers: int = 3) -> Asset:
    return Asset("heads", {"heads": torch.rand(layers, width)})


def test_a_fingerprint_is_of_shapes_and_signs() -> None:
    model = tiny("llama")
    mark = assets.fingerprint(model)
    assert len(mark) == 12 and mark == assets.fingerprint(tiny("llama", torch.bfloat16))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].self_attn.q_proj.weight.mul_(1.5)
        assert assets.fingerprint(other) == mark
        other.model.layers[1].self_attn.q_proj.weight.neg_()
    assert assets.fingerprint(other) != mark
    assert len({assets.fingerprint(tiny(name)) for name in ("llama", "qwen3", "mistral", "gpt2")}) == 4


@pytest.mark.parametrize("recipe", ["aquakv", "commvq", "svd > int4", "lean > int4", "leanvec", "pq"])
def test_the_reference_model_needs_no_calibration(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    model, tokenizer = keyvalise.reference()
    task = keyvalise.tasks.generate("records", tokens=400, seed=3)
    cache, ids = KVCache(model, recipe), tokenizer(task.document, return_tensors="pt").input_ids
    with torch.no_grad():
        coded = model(ids, past_key_values=cache).logits
        stock = model(ids).logits
        after = model(ids[:, :1], past_key_values=cache).logits[0, -1]
        want = model(torch.cat([ids, ids[:, :1]], 1)).logits[0, -1]
    error = float((after - want).norm() / want.norm())
    assert 1e-5 < error < 0.3, "codes change a little, and only a little"
    assert cache.ledger().fixed_bytes > 10_000 and list(tmp_path.iterdir()) == []
    assert torch.allclose(coded[:, 0], stock[:, 0], atol=1e-4)


def test_the_users_own_come_before_the_shipped_ones(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    monkeypatch.setattr(assets, "SHIPPED", tmp_path / "package")
    shipped = tmp_path / "package" / home.name / "duo.safetensors"
    with pytest.raises(
        AssetError, match="no asset 'duo' for this LlamaForCausalLM; kept for it: none; train one with"
    ):
        assets.find("duo", model)
    asset.write(shipped, heads(4))
    assert assets.find("duo", model) == shipped
    asset.write(home / "duo.safetensors", heads(4))
    assert assets.find("duo", model) == home / "duo.safetensors"
    with pytest.raises(AssetError, match=r"kept for it: duo; train one with .*train\.rlkv"):
        assets.find("rlkv", model)


def test_a_word_is_a_name_first_and_a_path_is_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    monkeypatch.chdir(tmp_path)
    Path("duo").write_text("0.5\n")
    assert assets.find("duo", model) == Path("duo")
    asset.write(home / "duo.safetensors", heads(4))
    assert assets.find("duo", model).parent == home
    assert assets.find("./duo", model) == Path("./duo")
    asset.write(home.parent / "secret.safetensors", heads(4))
    for name in ("../secret", "", ".", str(tmp_path)):
        with pytest.raises(AssetError, match="no asset"):
            assets.find(name, model)


def test_layers_are_cut_to_those_that_a_recipe_handles(home: Path) -> None:
    made = Asset("heads", {"heads": torch.rand(3, 8), "layers": torch.rand(3), "other": torch.rand(7)})
    asset.write(home / "mine.safetensors", made)
    found = of("mine", indices=(0, 2))
    assert torch.equal(found["heads"], made.tensors["heads"][[0, 2]])
    assert torch.equal(found["layers"], made.tensors["layers"][[0, 2]])
    assert torch.equal(found["other"], made.tensors["other"])


def test_sets_are_padded_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "sets").write_text(json.dumps({"1": [2]}))
    assert of(str(tmp_path / "sets"))["heads"].tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4]
    (tmp_path / "torch").write_bytes(torch_files.SETS)
    assert of(str(tmp_path / "torch"))["heads"].sum().item() == 4
    for lists in ({"3": [0]}, {"0": [4]}):
        (tmp_path / "sets").write_text(json.dumps(lists))
        with pytest.raises(
            AssetError, match=r"names layer . and head .; the model has 3 layers of 4 kv heads"
        ):
            of(str(tmp_path / "sets"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5\t0.5\t0.5\n" * 4, "has heads where layers belong; turn its rows into columns"),
        (
            "0.5\t0.5\t0.5\t0.5\n" * 4,
            "it holds 4 layers of 4 kv heads, the model has 3 layers of 8 query and 4",
        ),
        ("\t".join(["0.5"] * 8) + "\n", "it holds 1 layers of 8 kv heads"),
        ("\n".join(["\t".join(["0.5"] * 8)] * 3), "it holds 3 layers of 8 kv heads"),
        ('{"0-0": 1, "1-0": 1, "2-0": 1}', "it holds 3 layers of 1 query heads"),
        (json.dumps({f"{i}-{j}": 1 for i in range(3) for j in range(4)}), "3 layers of 4 query heads"),
        (json.dumps({f"{i}-{j}": 1 for i in range(8) for j in range(3)}), "turn its rows into columns"),
        ("[0.5, 0.5]", "it holds 2 layers, the model has 3 layers"),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "profile").write_text(text)
    with pytest.raises(AssetError) as caught:
        of(str(tmp_path / "profile"))
    assert said in str(caught.value)


def test_kinds_and_models_are_checked(home: Path, tmp_path: Path) -> None:
    (tmp_path / "shares").write_text("[0.5, 0.25, 0.75]")
    assert of(str(tmp_path / "shares"), "dropped")["layers"].tolist() == [0.5, 0.25, 0.75]
    with pytest.raises(AssetError, match="is of the kind dropped, a part asks for layers"):
        of(str(tmp_path / "shares"), "layers")
    asset.write(home / "mine.safetensors", Asset("heads", {"heads": torch.ones(3, 4)}, {"model": home.name}))
    assert of("mine", "heads")["heads"].shape == (3, 4)
    asset.write(home / "mine.safetensors", Asset("heads", {"heads": torch.ones(3, 4)}, {"model": "0" * 12}))
    with pytest.raises(AssetError, match=f"was made for the model 000000000000, this .* is {home.name}"):
        of("mine", "heads")


def test_a_recipe_takes_a_file_and_fails_before_the_first_token(tmp_path: Path) -> None:
    model, path = tiny("llama"), tmp_path / "gates.tsv"
    path.write_text("1\t0\t0\t0\n0\t0\t0\t0\n0\t0\t1\t0\n")
    cache = KVCache(model, f"duo(profile='{path}', full=0.2, sinks=2, recent=5) @ 90%")
    drive.run(model, cache, drive.text(63).calls(63))
    sizes = [[len(head) for head in cache.kept_positions(layer)[0]] for layer in range(3)]
    assert sizes == [[63, 7, 7, 7], [7] * 4, [7, 7, 63, 7]]
    path.write_text("[0.5, 0.5, 0.5]")
    with pytest.raises(AssetError, match="is of the kind dropped, a part asks for heads"):
        KVCache(model, cache.recipe)
