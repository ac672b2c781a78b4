"""Coded segments are read in blocks, before or after the rotary embedding, with parameters that stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from keyvalise.ops.fast import choose
from keyvalise.recipe.turned import Turned
from keyvalise.recipe.words import make
from keyvalise.store import coded
from keyvalise.store.coded import Coded
from keyvalise.store.joining import joined
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry, Rope
from tests.support.compare import assert_close
from tests.support.segments import Runs, queries

GEOMETRY = Geometry(2, 4, 2, 16, 16, torch.float32, 0.25)
ROPE = Rope(10000.0 ** -(torch.arange(8) / 8), False)
ENV = Env(0, GEOMETRY, ROPE)
COUNTS = [[96, 32], [64, 160]]


def segment(code: Any, counts: Any = COUNTS, weighs: bool = False) -> Coded:
    return Coded.of(code, ENV, Runs.random(GEOMETRY, counts, weighs=weighs).flat())


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read where it lies."""
    monkeypatch.setattr(choose, "_forced", lambda: False)


@pytest.mark.usefixtures("decodes")
@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("code", ["int8", "kivi"])
def test_blocks_of_any_size_answer_alike(code: str, weighs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    held, asked = segment(make(code), weighs=weighs), queries(GEOMETRY, 2, 1)
    whole = held.attend(asked)[0]
    for least in (32, 64, 100):
        monkeypatch.setattr(coded, "LEAST_BYTES", least * GEOMETRY.entry_bytes)
        cut = held.attend(asked)[0]
        assert_close(cut.out, whole.out, "logits_fp32", what=f"blocks of {least}")
        assert_close(cut.lse, whole.lse, "logits_fp32", what=f"blocks of {least}")


@pytest.mark.usefixtures("decodes")
def test_a_step_decodes_a_share_of_a_long_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded, "LEAST_BYTES", 32 * GEOMETRY.entry_bytes)
    held, seen = segment(make("int4"), [[6400, 0], [0, 6400]]), []
    decode = Coded.decoded
    monkeypatch.setattr(Coded, "decoded", lambda self, a, b: seen.append(b - a) or decode(self, a, b))
    held.attend(queries(GEOMETRY, 2, 1))
    assert max(seen) <= 12800 // 96 and sum(seen) == 12800


def test_keys_before_rotation_come_back_turned() -> None:
    run = Runs.random(GEOMETRY, COUNTS).flat()
    code = Turned((make("center"),), make("int8"))
    held = Coded.of(code, ENV, run)
    keys, values = held.decoded(0, len(run.keys))
    assert float((keys - run.keys).abs().max()) < 0.05 and float((values - run.values).abs().max()) < 0.05
    assert code.side == "pre"
    shifted = replace(held, env=replace(ENV, rope=None))
    assert float((shifted.decoded(0, len(run.keys))[0] - run.keys).abs().max()) > 1


def test_parameters_stay_when_later_entries_come() -> None:
    code = Turned((make("center"),), make("int8"))
    first = segment(code, [[5, 0], [7, 3]])
    late = Runs.random(GEOMETRY, [[2, 4], [1, 0]], seed=1).flat()
    late = replace(late, keys=late.keys + 9)
    second = Coded.of(code, ENV, late, first)
    both = joined([first, second])
    old = first.codes.home["center.keys"]
    now = both.codes.home["center.keys"]
    assert torch.equal(now[0], old[0]) and torch.equal(now[2], old[2]) and torch.equal(now[3], old[3])
    assert float(now[1].float().mean()) > 5, "a head without entries is fitted to its first"
    keys = both.decoded(0, 22)[0]
    assert float((keys[5:7] - late.keys[:2]).abs().max()) < 0.3


def test_rows_take_their_parameters_along() -> None:
    held = segment(Turned((make("center"),), make("int8")))
    turned = held.rows(torch.tensor([1, 0, 1]))
    asked = queries(GEOMETRY, 2, 1)
    want = held.attend(asked)[0]
    got = turned.attend(replace(asked, q=asked.q[[1, 0, 1]]))[0]
    assert_close(got.out, want.out[[1, 0, 1]], "logits_fp32")
