"""cover: every two parts that build together also run together, keep their budget, and drop like a mask."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
import torch

from keyvalise import KVCache, Recipe
from keyvalise.host.purpose import Purpose
from keyvalise.recipe import catalogue
from keyvalise.types.part import DECIDING, READING
from tests.support import covering, drive, oracle, profiles, walk
from tests.support.compare import assert_close
from tests.support.models import tiny
from tools import composition

SMALL = {
    "window": "window(7)",
    "evaluators": "evaluators(7)",
    "global_local": "global_local(7)",
    "caote": "caote(3)",
    "layers": "layers(least=5)",
    "balance": "balance(block=16)",
    "cam": "cam(4)",
    "slot": "slot(-7)",
    "pages": "pages(3)",
    "clusters": "clusters(3)",
    "stretches": "stretches(3)",
    "sentences": "sentences(most=4)",
    "spans": "spans(7, theta=1.1, most=5)",
    "landmarks": "landmarks(2)",
    "graph": "graph(sample=9, degree=4, beam=9, width=9)",
    "read": "read(9, sinks=1, recent=3, block=8)",
    "estimate": "estimate(9)",
}
"""Parts at sizes that a text of some sixty tokens shows."""

CODE = {"kivi": "kivi(4, group=8, residual=8)"}
BUDGET = "35%"
N_SHARDS = 8


def written(row: covering.Row) -> str:
    """The chain, at the prompt and, where everything is read, again while decoding; the code, int4 behind a
    transform alone; the reader, which has at least a unit and a measure.
    """
    code = row["encode"] or (row["transform"] and "int4")
    codes = [name for name in (row["transform"], code and CODE.get(code, f"{code}(residual=8)")) if name]
    reads = {room: row[room] for room in READING if row[room]}
    reads = composition.least(reads.values()) | reads if reads else {}
    when = "at prompt" if reads else "at prompt, every 5 in decode"
    chain = [row[room] for room in DECIDING if row[room]]
    items = [f"{when}: {joined(chain)} @ {BUDGET}", joined(codes), joined(list(reads.values()))]
    return "; ".join(item for item in items if item)


def joined(names: list[str]) -> str:
    """Parts in a row, at their sizes."""
    return " > ".join(SMALL.get(name, name) for name in names)


def is_built(recipe: Recipe) -> bool:
    KVCache(model(), recipe)
    return True


@pytest.fixture(autouse=True)
def _any_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codebooks of random numbers serve behind any transform."""
    monkeypatch.setattr(Purpose, "check", lambda *_: None)


@functools.cache
def model() -> torch.nn.Module:
    return profiles.give(tiny("llama"))


@functools.cache
def covered() -> Sequence[covering.Row]:
    return tuple(covering.rows(written, is_built))


@pytest.mark.slow
def test_every_pair_that_builds_is_in_a_row() -> None:
    met = set().union(*(covering.pairs_of(row) for row in covered()))
    missing = {
        frozenset(pair) for pair in composition.pairs() if catalogue.room(pair[0]) != catalogue.room(pair[1])
    } - {frozenset(pair) for pair in met}
    assert missing <= {frozenset(pair) for pair in composition.refused()}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(N_SHARDS))
def test_a_pair_that_builds_runs(shard: int) -> None:
    for row in covered()[shard::N_SHARDS]:
        runs(written(row))


def runs(text: str) -> None:
    """Two rows of different lengths, two turns, steps between: bytes said and held, budget, the mask."""
    cache, calls = KVCache(model(), text), drive.text(74, 51).calls(61, 1, 1, 1, 1, 1, 1, 1, 1, 5)
    try:
        got, before = oracle.through(model(), cache, calls)
        assert cache.nbytes == walk.held_bytes(cache, model()) == cache.ledger().nbytes
        assert all(logits[call.real].isfinite().all() for logits, call in zip(got, calls, strict=True))
        if only_drops(cache.recipe):
            want = oracle.masked(model(), calls, before)
            for call, a, b in zip(calls, got, want, strict=True):
                assert_close(a[call.real], b[call.real], "logits_fp32", what="masked oracle")
    except AssertionError as error:
        raise AssertionError(f"{text}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{text}: {error}") from error


def only_drops(recipe: Recipe) -> bool:
    """Whether all that happens to an entry is that it leaves, or weighs more."""
    return (
        recipe.code is None
        and recipe.reader is None
        and all(stage.act.name == "drop" for stage in recipe.stages)
    )
