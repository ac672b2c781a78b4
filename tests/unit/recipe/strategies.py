"""Recipes of every kind that a text can write, for Hypothesis."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from keyvalise.recipe import catalogue
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.stage import Stage
from keyvalise.recipe.turned import Turned
from keyvalise.types.argument import assets
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers, Share
from keyvalise.types.when import AtPrompt, Every

SHARES = st.sampled_from([0.5, 1.0, 12.5, 33.333, 50.0, 100.0])

budgets = st.one_of(
    st.builds(Budget, SHARES, st.just("%"), st.booleans()),
    st.builds(Budget, st.integers(1, 10**6).map(float), st.sampled_from(["tok", "B"])),
    st.sampled_from([Budget.parse("512MiB"), Budget.parse("1.5GiB"), Budget.parse("0.1KiB")]),
)
layers = st.one_of(
    st.just(ALL_LAYERS),
    st.builds(Layers, st.integers(0, 9)),
    st.builds(lambda a, b: Layers(a, a + b), st.integers(0, 9), st.integers(1, 9)),
    st.builds(lambda n: Layers(step=n), st.integers(2, 5)),
)
whens = st.lists(
    st.one_of(
        st.just(AtPrompt()),
        st.builds(Every, st.integers(1, 4096), st.sampled_from([None, "prompt", "decode"])),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


def value(field: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """Any value within the range of a part's field."""
    meta = field.metadata
    low, high = meta.get("low"), meta.get("high")
    if meta.get("choices"):
        return st.sampled_from(meta["choices"])
    if meta.get("asset"):
        return st.sampled_from(["duo", "mine", "a folder/heads.tsv"])
    if field.default == "":
        return st.sampled_from(["", "document", "a turn"])
    if isinstance(field.default, str):
        return st.sampled_from([field.default, "center > int4"])
    if isinstance(field.default, bool):
        return st.booleans()
    if isinstance(field.default, float):
        return st.floats(low, high if high is not None else 1000.0)
    whole = st.integers(low, 500 if high is None else int(high))
    return st.one_of(whole, SHARES.map(Share)) if "Amount" in str(field.type) else whole


def part(name: str) -> st.SearchStrategy[Any]:
    """A part with any arguments in range; half of them stay at their default."""
    kind = catalogue.part(name)
    fields = {
        field.name: st.one_of(st.just(field.default), value(field)) for field in dataclasses.fields(kind)
    }
    return st.builds(kind, **fields)


def room(name: str) -> st.SearchStrategy[Any]:
    """Any part of a room that needs no trained asset."""
    known = [word for word in catalogue.parts(name) if name not in TRAINED or not _assets(word)]
    return st.sampled_from(known).flatmap(part)


TRAINED = ("transform", "encode")


def _assets(word: str) -> bool:
    return bool(assets(catalogue.part(word)()))


stages = st.builds(
    Stage,
    whens,
    room("score"),
    st.lists(room("rescore"), max_size=3).map(tuple),
    room("allocate"),
    room("select"),
    room("act"),
    st.one_of(st.none(), budgets),
    layers,
)


codes = st.one_of(
    room("encode"),
    st.builds(Turned, st.lists(room("transform"), min_size=1, max_size=2).map(tuple), room("encode")),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Up to three stages, of which some repeat the one before, and perhaps a code."""
    found: list[Stage] = []
    for _ in range(draw(st.integers(0, 3))):
        if found and draw(st.booleans()):
            found.append(dataclasses.replace(found[-1], when=draw(whens)))
        else:
            found.append(draw(stages))
    code = draw(st.one_of(st.none(), codes))
    budget = None if found else draw(st.one_of(st.none(), budgets))
    return Recipe(tuple(found), code, ALL_LAYERS if code is None else draw(layers), budget)
