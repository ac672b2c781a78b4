"""Codes that answer where they lie, behind transforms too: as they answer when they are decoded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from keyvalise.ops.fast import choose
from keyvalise.recipe.turned import Turned
from keyvalise.recipe.words import make
from keyvalise.store import in_place
from keyvalise.store.coded import Coded
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry, Rope
from keyvalise.types.quantity import Share
from tests.support import books
from tests.support.compare import assert_close
from tests.support.segments import Runs, queries

COUNTS = [[96, 0, 32], [64, 160, 128]]
POST = {"side": "post"}
HALF = {"rank": Share(50), "values": Share(50)}


def geometry(softcap: float | None = None) -> Geometry:
    return Geometry(2, 6, 3, 64, 64, torch.float32, 0.125, softcap)


def env(shape: Geometry) -> Env:
    learned = {name: books.asset(name, 2, shape).tensors for name in ("svd", "lean", "pq", "rq")}
    return Env(1, shape, Rope(10000.0 ** -(torch.arange(32) / 32), False), fixed=learned)


def code(*words: str) -> Any:
    named = {"center": POST, "svd": HALF, "lean": {"rank": Share(50)}}
    *transforms, last = [_made(*word.split(), named=named.get(word)) for word in words]
    return Turned(tuple(transforms), last) if transforms else last


def _made(name: str, side: str = "", *, named: Any) -> Any:
    return make(name, named={"side": side} if side else named)


def segment(made: Any, shape: Geometry, weighs: bool = False) -> Coded:
    run = Runs.random(shape, COUNTS, weighs=weighs).flat()
    run.keys[:, 3] += 20
    run.values[:, 1] -= 5
    return Coded.of(made, env(shape), run)


CHAINS = [
    ("int8",),
    ("int4",),
    ("kivi",),
    ("vector",),
    ("center", "vector"),
    ("pq",),
    ("rq",),
    ("pq post",),
    ("center", "rq post"),
    ("hadamard", "int4"),
    ("center", "int8"),
    ("center", "hadamard", "kivi"),
    ("svd", "int4"),
    ("lean", "int8"),
    ("center", "svd", "hadamard", "int4"),
]


@pytest.mark.parametrize("n_queries", [1, 3])
@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("words", CHAINS, ids=" > ".join)
def test_it_answers_like_what_is_decoded(
    words: tuple[str, ...], weighs: bool, n_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = geometry()
    held, asked = segment(code(*words), shape, weighs), queries(shape, 2, n_queries)
    found = in_place.answer(held, asked)
    assert found is not None
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert in_place.answer(held, asked) is None
    want = held.attend(asked)[0]
    assert_close(found[0], want.out, "logits_fp32", what="out")
    assert_close(found[1], want.lse, "logits_fp32", what="lse")
    assert torch.equal(found[0][0, 2:4], torch.zeros(2, n_queries, 64)), "nothing is held there"


def test_a_soft_cap_bends_what_is_shifted() -> None:
    shape = geometry(softcap=20.0)
    asked = queries(shape, 2, 1)
    for words, is_read in ((("hadamard", "int4"), True), (("center", "int4"), False), (("int8",), True)):
        assert (in_place.answer(segment(code(*words), shape), asked) is not None) is is_read


def test_keys_before_their_rotation_are_decoded() -> None:
    made = Turned((make("center"),), make("int8"))
    assert in_place.answer(segment(made, geometry()), queries(geometry(), 2, 1)) is None


def test_many_queries_are_answered_by_what_is_decoded_once() -> None:
    shape = geometry()
    asked = queries(shape, 2, in_place.MOST_QUERIES + 1)
    assert in_place.answer(segment(code("int8"), shape), asked) is None
