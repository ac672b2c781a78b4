"""Codebooks and bases: trained on what a code is given, on the training split, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache, Recipe
from keyvalise.host import answer, assets, purpose
from keyvalise.ops import rope
from keyvalise.reference import tasks
from keyvalise.store import asset
from keyvalise.store.roll import Roll
from keyvalise.train import readings, texts, trainers
from keyvalise.train.readings import Reader, Reading
from keyvalise.train.run import Run
from keyvalise.train.texts import Texts
from keyvalise.train.trainers import Made
from keyvalise.types.errors import AssetError, InputError
from tests.support import drive, stock
from tests.support.models import tiny

SMALL = "pq(parts=4, codewords=16, codebook=mine)"
RECIPES = {
    "product": SMALL,
    "residual": "rq(stages=3, codewords=8, codebook=mine)",
    "basis": "svd(basis=mine) > fp16",
    "lean": "lean(projections=mine) > fp16",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's own; the folder for the tiny Llama in it."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    return tmp_path / "assets" / assets.fingerprint(tiny("llama"))


def some(n: int = 3) -> Texts:
    """Texts of different lengths for a model without a tokenizer."""
    return Texts(n, lambda i: drive.text(90 + i, seed=i).ids, {"split": "train", "texts": "some"})


def train(recipe: str, read: Texts | None = None, seed: int = 0, **options: Any) -> Made:
    found = Recipe.parse(recipe)
    *before, last = trainers.wanted(found, tiny("llama"))
    for one in before:
        trainers.make(trainers.job(one, tiny("llama"), read or some(), tokens=280, seed=seed))
    return trainers.make(
        trainers.job(last, tiny("llama"), read or some(), tokens=280, seed=seed, is_shown=False, **options)
    )


@pytest.mark.parametrize("kind", RECIPES)
def test_every_layer_has_its_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On held-out text, keys come back far better than with what another layer was given."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    monkeypatch.setattr(texts, "LENGTHS", (200, 300))
    model, tokenizer = keyvalise.reference()
    with pytest.raises(AssetError, match=r"no asset 'mine' .* train one with `keyvalise calibrate"):
        KVCache(model, RECIPES[kind])
    (one,) = trainers.wanted(Recipe.parse(RECIPES[kind]), model)
    made = trainers.make(trainers.job(one, model, texts.generated(model, tokenizer, 900), tokens=900))
    assert made.path == assets.home() / assets.fingerprint(model) / "mine.safetensors"
    page = tasks.generate("needle", tokens=200, seed=5)
    ids = tokenizer(page.document, return_tensors="pt").input_ids

    def error(recipe: str) -> float:
        caches = [answer.read(model, ids, text) for text in (recipe, "full")]
        total = torch.zeros(2)
        for layer in range(4):
            got, want = (Roll.of(cache.shared.layers[layer].memory).entries.keys() for cache in caches)
            spread = want - want.mean(2, keepdim=True)
            total += torch.stack([(got - want).square().sum() / spread.square().sum(), torch.ones(())])
        return float(total[0] / total[1])

    recipe = (
        RECIPES[kind].replace("mine)", "mine, residual=0)")
        if kind in ("product", "residual")
        else (RECIPES[kind].replace("fp16", "fp16(residual=0)"))
    )
    trained, held = error(recipe), asset.read(made.path)
    asset.write(made.path, replace(held, tensors={name: x.roll(1, 0) for name, x in held.tensors.items()}))
    assert trained < 0.4 < 2 * error(recipe) and trained < 0.6 * error(recipe)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_header_says_for_what_and_from_what_it_was_made(kind: str, home: Path) -> None:
    model, header = tiny("llama"), train(RECIPES[kind], seed=5).header
    part = next(iter(Recipe.parse(RECIPES[kind]).parts))
    assert header["model"] == assets.fingerprint(model) and header["seed"] == 5
    assert header["for"] == {"part": part.name, **part.asked_for} and header["behind"] == ""
    assert header["split"] == "train" and header["tokens"] == 280 and header["vectors"] > 100
    told = header.get("error", header.get("kept_in_half"))
    figures = [x for side in (told.values() if isinstance(told, dict) else [told]) for x in side]
    assert len(figures) in (3, 6) and all(0 < x < 1 for x in figures)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_same_seed_gives_the_same_file(kind: str, home: Path) -> None:
    first, second = train(RECIPES[kind]), train(RECIPES[kind])
    assert first.content == second.content
    if kind in ("product", "residual"):
        assert train(RECIPES[kind], seed=1).content != first.content


@pytest.mark.parametrize("kind", RECIPES)
def test_an_interrupted_training_ends_as_one_that_was_not(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, left, keep = train(RECIPES[kind]).content, [2], Run._keep
    state = home / "training" / "mine.safetensors"

    def stopping(self: Run, tensors: Any) -> None:
        keep(self, tensors)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_keep", stopping)
        patch.setattr(
            Run.__init__, "__defaults__", tuple(1 if d == 10 else d for d in Run.__init__.__defaults__)
        )
        with pytest.raises(KeyboardInterrupt):
            train(RECIPES[kind])
    assert state.is_file()
    with pytest.raises(InputError, match=r"has seed=0, this one 3; give the same settings, or .* --fresh"):
        train(RECIPES[kind], seed=3)
    assert train(RECIPES[kind]).content == want and not state.exists()


@pytest.mark.parametrize("side", ["pre", "post"])
def test_readings_are_what_the_model_holds(side: str) -> None:
    model, found = tiny("llama"), {}

    def take(layer: int, reading: Reading) -> None:
        found[layer] = reading

    Reader(model, is_turned_back=side == "pre").read(drive.text(63).ids, take)
    prompt, turn = stock.prompt(63), KVCache(model, "center > int8").shared.ropes[0]
    assert list(found) == [0, 1, 2] and turn is not None
    for layer, reading in found.items():
        keys = prompt.keys[layer]
        if side == "pre":
            keys = rope.unrotate(keys, torch.arange(63), turn)
        assert torch.allclose(reading.keys, keys, atol=1e-4)
        assert torch.allclose(reading.values, prompt.values[layer], atol=1e-4)
        assert reading.queries.shape == (8, 63, 16)


def test_a_part_is_trained_behind_the_transforms_before_it(home: Path) -> None:
    plain, behind = train(SMALL), train(f"center > {SMALL.replace('mine', 'centred')}")
    assert behind.header["behind"] == "center"
    means = [
        asset.read(one.path).tensors["values"].float().mean((2, 3)).abs().mean() for one in (plain, behind)
    ]
    assert means[1] < means[0]
    first = "svd(rank=50%, values=25%, basis=first)"
    shrunk = train(f"{first} > pq(2, 8, side=post, codebook=second)")
    inner = asset.read(shrunk.path).tensors
    assert inner["keys"].shape == (3, 4, 2, 8, 4) and inner["values"].shape == (3, 4, 2, 8, 2)
    cache = KVCache(tiny("llama"), f"{first} > pq(2, 8, side=post, codebook=second)")
    drive.run(tiny("llama"), cache, drive.text(60).calls(60))


def test_what_was_made_for_something_else_is_refused(home: Path) -> None:
    train(SMALL)
    for recipe, said in (
        (
            SMALL.replace("parts=4", "parts=8"),
            "was made for parts=4, the recipe's pq needs one made for parts=8; give",
        ),
        (f"hadamard > {SMALL}", "was made for what no transform gives, .* for what hadamard gives"),
        (SMALL.replace("pq(", "pq(side=post, "), "was made for side=pre, .* needs one made for side=post"),
        ("svd(basis=mine) > fp16", "is of the kind product, a part asks for basis"),
    ):
        with pytest.raises(AssetError, match=said):
            KVCache(tiny("llama"), recipe)
    asset.write(home / "mine.safetensors", replace(asset.read(home / "mine.safetensors"), header={}))
    with pytest.raises(AssetError, match="does not say what it was made for"):
        KVCache(tiny("llama"), SMALL)


def test_an_asset_is_named_by_its_content(home: Path) -> None:
    model, first = tiny("llama"), train(SMALL)
    (home / "kept.safetensors").write_bytes(first.path.read_bytes())
    names = [f"mine@{first.content[:12]}", f"mine@sha256:{first.content}", f"sha256:{first.content[:6]}"]
    for name in names:
        recipe = SMALL.replace("mine", f"'{name}'")
        assert str(Recipe.parse(recipe)) == recipe
        assert set(KVCache(model, recipe).shared.fixed) == {name}
    assert assets.find(names[0], model) == first.path
    second = train(SMALL, seed=1)
    assert assets.find(names[0], model) == home / "kept.safetensors", (
        "the old content, whatever it is called now"
    )
    (home / "kept.safetensors").unlink()
    with pytest.raises(AssetError, match=f"hashes to {second.content[:12]}, the recipe names"):
        KVCache(model, SMALL.replace("mine", f"'{names[0]}'"))
    with pytest.raises(AssetError, match="no asset 'sha256:123456' for this"):
        assets.find("sha256:123456", model)


def test_what_is_there_is_not_made_again(home: Path) -> None:
    (one,) = trainers.wanted(Recipe.parse(SMALL), tiny("llama"))
    assert trainers.ready(one, tiny("llama")) is None
    made = train(SMALL)
    there = trainers.ready(one, tiny("llama"))
    assert there is not None and not there.is_new and there.content == made.content
    (other,) = trainers.wanted(Recipe.parse(SMALL.replace("parts=4", "parts=2")), tiny("llama"))
    with pytest.raises(AssetError, match="was made for parts=4"):
        trainers.ready(other, tiny("llama"))
    (by_hash,) = trainers.wanted(Recipe.parse(SMALL.replace("mine", "'mine@123456'")), tiny("llama"))
    with pytest.raises(AssetError, match="hashes to"):
        trainers.ready(by_hash, tiny("llama"))


def test_assets_of_other_kinds_say_how_they_are_made(home: Path) -> None:
    assert trainers.wanted(Recipe.parse("int4"), tiny("llama")) == []
    with pytest.raises(AssetError, match=r"no asset 'duo' .*python -m keyvalise\.train\.duo"):
        trainers.wanted(Recipe.parse("duo"), tiny("llama"))


def test_names_and_chains_that_cannot_be_are_refused(home: Path) -> None:
    (one,) = trainers.wanted(Recipe.parse(SMALL), tiny("llama"))
    with pytest.raises(InputError, match=r"'my book' is none; write one such as mine"):
        trainers.job(one, tiny("llama"), some(), "my book", tokens=1)
    with pytest.raises(InputError, match=r"lean learns from queries .*, and hadamard stands before it"):
        train("hadamard > lean(projections=mine) > fp16")
    with pytest.raises(InputError, match=r"give 90 vectors for 4096 codewords; ask for more --tokens"):
        train("pq(parts=4, codewords=4096, codebook=mine)", some(1))


def test_generated_texts_are_of_the_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = keyvalise.reference()
    asked: list[str] = []
    generate = tasks.generate
    monkeypatch.setattr(texts, "LENGTHS", (130, 200))

    def watched(*given: Any, **options: Any) -> Any:
        asked.append(options["split"])
        return generate(*given, **options)

    monkeypatch.setattr(texts.tasks, "generate", watched)
    found = texts.generated(model, tokenizer, 500, seed=3)
    ids = [found.ids(i) for i in range(found.n)]
    assert set(asked) == {"train"} and sum(one.shape[1] for one in ids) >= 480 and found.n in (3, 4)
    assert torch.equal(found.ids(1), ids[1]) and not torch.equal(ids[0][:, :50], ids[1][:, :50])
    other = texts.generated(model, tokenizer, 500, seed=4)
    assert not torch.equal(other.ids(0)[:, :50], ids[0][:, :50])
    assert found.facts["split"] == "train"


def test_a_users_text_is_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = keyvalise.reference()
    monkeypatch.setattr(texts, "LENGTHS", (64, 100))
    long = "the code of mira tolan is 47 . " * 60

    def count(read: Texts) -> int:
        return sum(read.ids(i).shape[1] for i in range(read.n))

    whole = texts.of_user(model, tokenizer, {"a": long, "b": long}, 10**6)
    some_ = texts.of_user(model, tokenizer, {"a": long, "b": long}, 250)
    assert all(whole.ids(i).shape[1] <= 100 for i in range(whole.n)) and 200 < count(some_) <= 300 < count(
        whole
    )
    assert whole.facts["split"] == "user" and whole.facts["texts"] == ["a", "b"]
    other = texts.of_user(model, tokenizer, {"a": long, "b": f"{long} ."}, 10**6)
    assert other.facts["text_sha256"] != whole.facts["text_sha256"], "names do not make a text"
    with pytest.raises(InputError, match="the texts a have fewer than 64 tokens; give longer ones"):
        texts.of_user(model, tokenizer, {"a": "the code ."}, 100)


def test_drawn_places_are_ascending_with_the_first_among_them() -> None:
    places = readings.drawn(70, 9, "a seed")
    assert places[0] == 0 and len(places) == 9 and places.tolist() == sorted(set(places.tolist()))
    assert torch.equal(places, readings.drawn(70, 9, "a seed"))
    assert readings.drawn(5, 9, "").tolist() == [0, 1, 2, 3, 4]


def test_purposes_stand_in_the_order_in_which_they_are_made() -> None:
    found = purpose.of(Recipe.parse("svd(basis=a) > pq(2, 8, codebook=b)"))
    assert [(one.name, one.kind, len(one.before)) for one in found] == [
        ("a", "basis", 0),
        ("b", "product", 1),
    ]
    assert found[1].header["behind"] == "svd(basis=a)"
    demoted = purpose.of(Recipe.parse("at prompt: knorm > demote('pq(codebook=c)') @ 20%"))
    assert [one.name for one in demoted] == ["c"]
