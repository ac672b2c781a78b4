"""Whatever could change an answer is no hit: models, recipes, tenants, spans, profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache, Store
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.store.tiers import upkeep
from tests.support.models import tiny
from tests.unit.host.kept import TEXT, read


@pytest.mark.parametrize(
    "options",
    [
        {"salt": "x"},
        {"adapter": "x"},
        {"edits": ("x",)},
        {"dtype": torch.bfloat16},
        {"prefill_chunk": 50},
        {"seed": 1},
        {"recipe": "snapkv(window=9) @ 25%"},
        {"recipe": "snapkv(window=8) @ 26%"},
        {"recipe": "full"},
    ],
    ids=lambda options: str(*options.items()),
)
def test_whatever_could_change_an_answer_is_no_hit(store: Store, options: dict[str, Any]) -> None:
    model, usual = tiny("llama"), {"recipe": "snapkv(window=8) @ 25%"}
    store.put(read(model, TEXT, **usual), TEXT)
    assert store.get(model, TEXT, **usual) is not None
    assert store.longest_prefix(model, TEXT, **{**usual, **options}) is None
    own = {name: value for name, value in options.items() if name in ("salt", "adapter", "edits")}
    rest = {name: value for name, value in options.items() if name not in own}
    store.put(read(model, TEXT, **{**usual, **rest}), TEXT, **own)
    assert store.get(model, TEXT, **{**usual, **options}) is not None and len(upkeep.rows(store.shelf)) == 2


def test_an_adapter_called_like_the_salt_is_no_hit(store: Store) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT, salt="x")
    for options in ({"adapter": "x"}, {"edits": ("x",)}, {"salt": "x", "adapter": "x"}, {}):
        assert store.get(model, TEXT, **options) is None
    assert store.get(model, TEXT, salt="x") is not None and store.stats().hits == 1


def test_another_model_is_no_hit(store: Store) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT)
    torch.manual_seed(1)
    other = type(model)(model.config).eval()
    assert store.get(other, TEXT) is None
    other.load_state_dict(model.state_dict())
    assert store.get(other, TEXT) is not None
    with torch.no_grad():
        other.model.norm.weight[3] += 1e-3
    assert store.get(other, TEXT) is None


def test_another_profile_of_the_same_name_is_no_hit(store: Store, tmp_path: Path) -> None:
    model, path = tiny("llama"), tmp_path / "heads"
    recipe = f"duo(profile='{path}', sinks=4, recent=16) @ 60%"
    for number in (0, 1):
        heads = torch.rand(3, 4, generator=torch.Generator().manual_seed(number))
        asset.write(path, Asset("heads", {"heads": heads}, {"granularity": "kv"}))
        assert store.get(model, TEXT, recipe) is None
        store.put(read(model, TEXT, recipe), TEXT)
        assert store.get(model, TEXT, recipe) is not None
    assert store.stats().n_objects == 2


def test_spans_belong_to_the_key(store: Store) -> None:
    model, recipe = tiny("llama"), "plphp(only=image) @ 40%"
    cache = KVCache(model, recipe)
    cache.span("image", 10, 60)
    cache.prompt_ends(150)
    with torch.no_grad():
        model(TEXT, past_key_values=cache)
    store.put(cache, TEXT)
    assert store.get(model, TEXT, recipe) is None
    assert store.get(model, TEXT, recipe, spans={"image": (10, 60)}) is not None


def test_what_is_stored_tells_no_salt(store: Store, tmp_path: Path) -> None:
    model = tiny("llama")
    store.put(read(model, TEXT), TEXT, salt="secret-salt")
    assert store.get(model, TEXT, salt="secret-salt") is not None
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert files and not any(b"secret" in path.read_bytes() + str(path).encode() for path in files)


def test_another_tokenizer_is_refused(store: Store) -> None:
    import copy

    model, tokenizer = keyvalise.reference()
    store.put(read(model, TEXT), TEXT, tokenizer=tokenizer)
    assert store.get(model, TEXT, tokenizer=tokenizer) is not None
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["<new>"])
    with pytest.raises(keyvalise.types.errors.InputError, match="tokenizer"):
        store.get(model, TEXT, tokenizer=other)
