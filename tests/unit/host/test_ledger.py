"""What the ledger says beside bytes: what budgets came to, layer by layer, and the assets apart."""

from __future__ import annotations

import pytest

from keyvalise import KVCache
from keyvalise.host.ledger import Ledger, knobs
from keyvalise.ops.fast import choose
from tests.support import drive, profiles
from tests.support.models import tiny


def ledger(recipe: str) -> Ledger:
    """Of the tiny Llama after a prompt of 60 tokens."""
    model = profiles.give(tiny("llama"))
    cache = KVCache(model, recipe)
    drive.run(model, cache, drive.text(60).calls(60))
    return cache.ledger()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("duo(sinks=2, recent=5) @ 50%", "heads keep all of 60 tokens"),
        ("plphp(window=7) @ 50%", "every head keeps"),
        ("fastgen @ 70%", "heads by policy:"),
    ],
)
def test_what_a_budget_came_to_stands_once_per_layer(recipe: str, words: str) -> None:
    said = ledger(recipe).knobs
    assert all(words in one for one in said)
    layers = [int(n) for one in said for n in one.partition(":")[0].split(" ", 1)[1].split(", ")]
    assert sorted(layers) == [0, 1, 2]


def test_full_heads_are_those_that_hold_everything() -> None:
    model = profiles.give(tiny("llama"))
    cache = KVCache(model, "duo(sinks=2, recent=5) @ 50%")
    drive.run(model, cache, drive.text(60).calls(60))
    said = " ".join(cache.ledger().knobs)
    for layer in range(3):
        n_full = sum(len(head) == 60 for head in cache.kept_positions(layer)[0])
        assert f"{n_full} of 4 heads" in said


def test_a_recipe_that_keeps_its_count_says_nothing() -> None:
    assert ledger("knorm @ 50%").knobs == ()


def test_equal_sentences_share_a_line() -> None:
    assert list(knobs({0: ["a"], 1: ["b"], 2: ["a"]})) == ["layers 0, 2: a", "layer 1: b"]


def test_assets_are_counted_apart() -> None:
    with_asset, without = ledger("duo(sinks=2, recent=5) @ 50%"), ledger("knorm @ 50%")
    assert with_asset.assets == {"duo": 3 * 4 * 4} and with_asset.fixed_bytes == 48
    assert with_asset.nbytes == sum(line.n_bytes for line in with_asset.lines)
    assert without.assets == {} and without.to_dict()["fixed_bytes"] == 0


def test_what_is_forgotten_behind_a_prompt_is_not_told() -> None:
    cache = KVCache(profiles.give(tiny("llama")), "at prompt: policies > threshold > drop @ 40%")
    drive.run(tiny("llama"), cache, drive.text(63).calls(60, 1, 1))
    assert cache.ledger().nbytes == cache.nbytes and not cache.ledger().knobs


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [
        ("full", {"tail"}),
        ("int4", {"coded", "tail"}),
        ("knorm > adaptive @ 50%", {"ragged", "tail"}),
        ("quest(read=9, recent=3, block=5)", {"indexed", "tail"}),
        ("quest(read=9, recent=3, block=5) > host", {"indexed", "tail"}),
    ],
)
def test_who_answers_stands_beside_every_kind(recipe: str, kinds: set[str]) -> None:
    model, text = tiny("llama"), drive.text(62)
    cache = KVCache(model, recipe)
    drive.run(model, cache, text.calls(60, 1, 1))
    found = cache.ledger().kernels
    assert found.keys() == kinds
    known = {"numba", "torch", "triton", "in place", "decoded", "brought from host"}
    assert all(set(said.split(", ")) <= known for said in found.values())
    assert "brought from host" in found.get("indexed", "") or "host" not in recipe


def test_what_is_forced_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert ledger("knorm > adaptive @ 50%").kernels["ragged"] == "torch"
    assert ledger("int4").kernels["coded"] == "decoded"
    monkeypatch.setattr(choose, "_forced", lambda: True)
    assert ledger("knorm > adaptive @ 50%").kernels["ragged"] == "numba"
    assert ledger("int4").kernels["coded"] == "in place"
