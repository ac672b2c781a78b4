"""Recipes put together at random, run through a model in calls of random widths: whatever is built runs,
keeps its budget and its order, and serves every row of a batch as if it were alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st

from keyvalise import KVCache, Recipe
from keyvalise.recipe import bytes as sizes
from keyvalise.recipe.river import basis
from keyvalise.recipe.stage import Stage
from keyvalise.store import layer as store
from keyvalise.types.argument import assets
from keyvalise.types.errors import KeyvaliseError, UnmetNeed
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from keyvalise.types.when import AtPrompt, Every
from tests.property.lengths import at_length
from tests.support import drive
from tests.support.models import tiny
from tests.unit.recipe import strategies


def small(part: Any) -> Any:
    """The same part with whole numbers that a text of some forty tokens shows."""
    changed = {}
    for field in dataclasses.fields(part):
        value, low = getattr(part, field.name), field.metadata.get("low") or 0
        if type(value) is int and not field.metadata.get("choices"):
            changed[field.name] = max(int(low), value % 12)
    return replace(part, **changed)


def room(name: str) -> st.SearchStrategy[Any]:
    """Parts that need no files, and no marked spans."""
    parts = strategies.room(name).filter(lambda part: not assets(part)).map(small)
    return parts.filter(lambda part: not getattr(part, "only", ""))


budgets = st.one_of(
    st.builds(Budget, st.sampled_from([8.0, 20.0, 35.0, 60.0, 90.0, 100.0]), st.just("%"), st.booleans()),
    st.builds(Budget, st.integers(1, 40).map(float), st.just("tok")),
    st.builds(Budget, st.sampled_from([5.0, 20.0, 50.0]).map(lambda n: n * 1024), st.just("B")),
)
whens = st.lists(
    st.one_of(
        st.just(AtPrompt()), st.builds(Every, st.integers(1, 9), st.sampled_from([None, "prompt", "decode"]))
    ),
    min_size=1,
    max_size=2,
).map(tuple)
layers = st.sampled_from([ALL_LAYERS, ALL_LAYERS, ALL_LAYERS, Layers(1), Layers(0, 2), Layers(step=2)])
stages = st.builds(
    Stage,
    whens,
    room("score"),
    st.lists(room("rescore"), max_size=2).map(tuple),
    room("allocate"),
    room("select"),
    room("act"),
    budgets,
    layers,
)
recipes = st.builds(
    Recipe, st.lists(stages, max_size=2).map(tuple), st.one_of(st.none(), room("encode")), layers
)


@dataclass(frozen=True)
class Place:
    """A cache after a call of this width: tokens seen by every row, and how many at its latest prompt end."""

    cache: KVCache
    width: int
    clock: tuple[int, ...]
    prompt: tuple[int, ...]

    @staticmethod
    def after(cache: KVCache, call: drive.Call, before: Place | None) -> Place:
        clock, width = tuple(call.mask.sum(-1).tolist()), call.ids.shape[1]
        old = (0,) * len(clock) if before is None else before.prompt
        return Place(cache, width, clock, clock if width > 1 else old)

    def is_due(self, stage: Stage) -> bool:
        """Whether a stage has just acted in every row."""
        phase = "prompt" if self.width > 1 else "decode"
        return all(self.clock) and any(
            phase == "prompt"
            if isinstance(when, AtPrompt)
            else when.phase in (None, phase) and all(seen % when.n == 0 for seen in self.clock)
            for when in stage.when
        )


def in_order(place: Place, kept: drive.Kept) -> None:
    """Ordinals ascend, none comes twice, and the newest stays where it is protected."""
    for index, rows in kept.items():
        acts = [stage.act for stage in place.cache.recipe.stages if index in stage.layers]
        is_safe = all(type(act.recent) is int and act.recent > 0 and act.sinks == 0 for act in acts)
        for row, seen in zip(rows, place.clock, strict=True):
            for head in row:
                assert head == sorted(set(head)) and set(head) <= set(range(seen))
                assert not (seen and is_safe) or head[-1] == seen - 1, "the newest is protected"


def within_budget(place: Place) -> None:
    """After a decision in all rows the layers of a stage hold together no more than its share allows; a row
    that may hold one token per head holds that at least.
    """
    for number, stage in enumerate(place.cache.recipe.stages):
        if stage.budget is None or stage.budget.unit != "%" or not place.is_due(stage):
            continue
        # A hundred per cent is everything, metadata included, unless it is written in code.
        own = [
            layer
            for index, layer in place.cache.shared.layers.items()
            if index in stage.layers and (stage.budget.amount < 100 or layer.river.code is not None)
        ]
        held = sum(held_bytes(layer.memory) for layer in own)
        assert held <= sum(allowed_bytes(place, layer, stage) for layer in own), f"stage {number}"


def has_ties(recipe: Recipe) -> bool:
    """Whether entries may score the same but for the last digit: two keys are as far from their mean, and a
    pool that is wider than what is held gives all of it one mean.
    """
    least = [s.budget.amount if s.budget is not None and s.budget.unit == "tok" else 1 for s in recipe.stages]
    is_even = any(s.score.name == "keydiff" for s in recipe.stages) and min(least) < 3
    return is_even or any(part.name == "pool" for part in recipe.parts)


def held_bytes(memory: Any) -> int:
    storages = (named[2].untyped_storage() for _, named in store.tensors(memory))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def allowed_bytes(place: Place, layer: Any, stage: Stage) -> int:
    """Of one layer, over all rows."""
    total, river, geometry = 0, layer.river, layer.env.geometry
    cost = sizes.cost_of(place.cache.recipe, stage, geometry, layer.env.layer)
    for seen, prompt in zip(place.clock, place.prompt, strict=True):
        whole = basis(stage.budget, seen, prompt)
        allowed = sizes.allowed_bytes(stage.budget, stage.layers, geometry, whole)
        is_least = river.plan(stage, seen, whole, 1.0).tokens <= 1
        # One token alone may take more in code than raw: scales of its own for every channel.
        least = max(cost.bytes(1, raw, 1.0, seen=seen) for raw in (0, 1)) if is_least else 0
        total += max(allowed, least)
    return total


def run(model: Any, recipe: Recipe, calls: list[drive.Call]) -> drive.Trail:
    """The calls, each looked at from all sides."""
    cache, place = KVCache(model, recipe), None
    logits, trail = [], []
    for call in calls:
        passed = drive.run(model, cache, [call])
        place = Place.after(cache, call, place)
        assert passed.logits[0][call.real].isfinite().all()
        in_order(place, passed.kept[0])
        within_budget(place)
        logits, trail = [*logits, *passed.logits], [*trail, *passed.kept]
        assert cache.ledger().nbytes == cache.nbytes and repr(cache)
    return drive.Trail(logits, trail, cache)


@st.composite
def texts(draw: st.DrawFn, first: int = 1, rows: int = 1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(padding of every row, widths of the calls), no fewer rows and no shorter a first call than asked for;
    one row has no padding.
    """
    widths = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 5, 9]), max_size=8))
    first = draw(st.integers(first, 30))
    pads = draw(st.lists(st.integers(0, first + sum(widths) - 1), min_size=rows - 1, max_size=2))
    return (0, *pads), (first, *widths)


@at_length(40, 600, recipe=recipes, text=texts(), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_whatever_is_built_runs_and_keeps_its_promises(
    recipe: Recipe, text: tuple[tuple[int, ...], tuple[int, ...]], dtype: torch.dtype
) -> None:
    model, (pads, widths) = tiny("llama", dtype), text
    is_built(model, recipe)
    run(model, recipe, drive.text(*(sum(widths) - pad for pad in pads)).calls(*widths))


@at_length(25, 300, recipe=recipes.filter(lambda one: not has_ties(one)), text=texts(5, 2))
def test_a_row_of_a_batch_is_served_as_if_it_were_alone(
    recipe: Recipe, text: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """Where padding leaves a row a prompt in the first call: one token alone is no prompt."""
    model, (pads, (first, *widths)) = tiny("llama", torch.float64), text
    pads = tuple(min(pad, first - 4) for pad in pads)
    is_built(model, recipe)
    batch = drive.text(*(first + sum(widths) - pad for pad in pads))
    together = run(model, recipe, batch.calls(first, *widths))
    for row, pad in enumerate(pads):
        alone = run(model, recipe, batch.row(row).calls(first - pad, *widths))
        for i, (kept, want) in enumerate(zip(together.kept, alone.kept, strict=True)):
            assert {layer: rows[row] for layer, rows in kept.items()} == {
                layer: rows[0] for layer, rows in want.items()
            }, f"row {row}, call {i}"


def is_built(model: Any, recipe: Recipe) -> None:
    """What cannot be built for a model is no example."""
    try:
        KVCache(model, recipe)
    except KeyvaliseError:
        assume(False)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("at prompt: knorm > drop @ 40%; int4(group=8, residual=9)", (47, 40)),
        ("at prompt: knorm > pyramid @ 20% on ..2", (60,)),
        ("at prompt: knorm > adaptive @ 20% on 1", (60, 21)),
    ],
)
def test_a_share_holds_for_the_layers_of_a_stage(text: str, lengths: tuple[int, ...]) -> None:
    model = tiny("llama")
    cache = KVCache(model, text)
    (call,) = drive.text(*lengths).calls(max(lengths))
    drive.run(model, cache, [call])
    place, (stage,) = Place.after(cache, call, None), cache.recipe.stages
    own = [layer for index, layer in cache.shared.layers.items() if index in stage.layers]
    allowed = [
        sizes.allowed_bytes(stage.budget, stage.layers, layer.env.geometry, n)
        for n in place.clock
        for layer in own
    ]
    assert sum(held_bytes(layer.memory) for layer in own) <= sum(allowed)


def test_a_row_waits_for_other_layers_as_if_it_were_alone() -> None:
    model = tiny("llama", torch.float64)
    text = "every 9 in prompt: norm_logit > balance > drop(recent=7) @ 8tok; int2(group=4, residual=3)"
    recipe, batch = Recipe.parse(text), drive.text(18, 10, 11)
    together = run(model, recipe, batch.calls(17))
    alone = run(model, recipe, batch.row(0).calls(17))
    assert [rows[0] for rows in together.kept[0].values()] == [rows[0] for rows in alone.kept[0].values()]


def test_a_pyramid_over_layers_that_cost_differently_is_refused() -> None:
    with pytest.raises(UnmetNeed, match="layers:alike"):
        KVCache(tiny("llama"), "at prompt: knorm > pyramid @ 20%; int4 on 1..")


def test_weights_that_grow_at_every_step_stay_finite_when_entries_merge() -> None:
    """Sampling anew at every token is not what it is for; what it says is unlikely, but a number."""
    text = "every 1, at prompt: random > pyramid(beta=719.2) > sample(score) > merge @ 13tok"
    run(
        tiny("llama", torch.float64), Recipe.parse(text), drive.text(51, 51).calls(27, 1, 1, 1, 1, 1, 1, 9, 9)
    )
