"""The foreseen column: its formula by hand, pieces, causality, rotation, and what it must not read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.observe import retaining
from keyvalise.observe.retaining import RetainingObserver
from keyvalise.ops import retain, rope
from keyvalise.types.data import Env
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed, random

GEOMETRY = make_geometry()
SIZE = 6 * 10 + 2 * 10 + 2 * 10
OBSERVER = RetainingObserver("mine")
ROPE = make_rope(8, scaling=1.3)


def env(layer: int = 1, **more: object) -> Env:
    heads = {"fc1": random(3, 7, SIZE, seed=5), "fc2": random(3, 2, 7, seed=6), "gelu": torch.empty(0)}
    return replace(make_env(GEOMETRY, layer=layer), fixed={"mine": heads}, **more)  # type: ignore[arg-type]


def wanted(history: History, layer: int = 1) -> list[Tensor]:
    """Per row [H, n], token by token, in double precision."""
    heads, found = env().fixed["mine"], []
    fc1, fc2 = heads["fc1"][layer].double(), heads["fc2"][layer].double()
    for row, count in enumerate(history.counts):
        tokens = range(history.q.shape[2] - count, history.q.shape[2])
        read = [
            torch.cat(
                [x[row, head, t] for x in (history.q, history.k, history.v) for head in range(x.shape[1])]
            )
            for t in tokens
        ]
        found.append(torch.stack([fc2 @ functional.gelu(fc1 @ x.double()) for x in read], 1))
    return found


def rotated(history: History) -> History:
    places = history.stretch.ordinals()[:, None].clamp(min=0)
    turned = {name: rope.apply(getattr(history, name), places, ROPE) for name in ("q", "k")}
    return replace(history, **turned)


@pytest.mark.parametrize("cuts", [(), (31,), (2, 50, 51), tuple(range(55, 63))])
@pytest.mark.parametrize("turns", [False, True])
def test_it_is_the_formula_in_any_pieces(
    cuts: tuple[int, ...], turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaining, "BLOCK", 13)
    history = History.of(GEOMETRY, (63, 20, 1))
    met = rotated(history) if turns else history
    _, entries = observed(OBSERVER, env(rope=ROPE if turns else None), met, cuts)
    column = entries.columns[OBSERVER.column]
    for row, want in enumerate(wanted(history)):
        assert_close(column[row, :, : want.shape[1]], want.float(), "score_fp32")


def test_every_layer_has_its_own_head() -> None:
    history = History.of(GEOMETRY, (9,))
    _, entries = observed(OBSERVER, env(layer=2), history)
    assert_close(entries.columns[OBSERVER.column][0], wanted(history, 2)[0].float(), "score_fp32")


def test_later_tokens_change_nothing() -> None:
    history = History.of(GEOMETRY, (63,))
    later = history.q.clone()
    later[:, :, 40:] += 1
    columns = [
        observed(OBSERVER, env(), one)[1].columns[OBSERVER.column]
        for one in (history, replace(history, q=later))
    ]
    assert_same(columns[0][..., :40], columns[1][..., :40])
    assert (columns[0][..., 40:] != columns[1][..., 40:]).all()


def test_what_came_before_the_observer_counts_as_nothing() -> None:
    history = History.of(GEOMETRY, (12, 8))
    _, columns = OBSERVER.update(env(), {}, history.piece(7, 12), history.entries())
    column = columns[OBSERVER.column]
    assert (column[0, :, :7] == 0).all() and (column[1, :, :3] == 0).all() and column.isfinite().all()
    for row, want in enumerate(wanted(history)):
        n = want.shape[1]
        assert_close(column[row, :, n - 5 : n], want[:, n - 5 :].float(), "score_fp32")


def test_heads_that_hold_different_entries_find_their_own() -> None:
    history = History.of(GEOMETRY, (12,))
    whole = history.entries()
    ordinals = torch.tensor([[[0, 7, 9, 10, -1], [3, 8, 9, 10, 11]]], dtype=torch.int32)
    held = replace(
        whole,
        lengths=torch.tensor([[4, 5]]),
        live=ordinals >= 0,
        ordinals=ordinals,
        columns={OBSERVER.column: torch.tensor([[[5.0, 0, 0, 0, float("nan")], [6.0, 0, 0, 0, 0]]])},
    )
    _, columns = OBSERVER.update(env(), {}, history.piece(7, 12), held)
    want = wanted(history)[0].float()
    first = torch.cat([torch.tensor([5.0]), want[0, [7, 9, 10]], torch.zeros(1)])
    second = torch.cat([torch.tensor([6.0]), want[1, [8, 9, 10, 11]]])
    assert_close(columns[OBSERVER.column][0], torch.stack([first, second]), "score_fp32")


@pytest.mark.parametrize("name", retain.ACTIVATIONS)
def test_activations_by_name(name: str) -> None:
    x, fc1, fc2 = random(2, 5, 4), random(3, 4, seed=1), random(2, 3, seed=2)
    got = retain.predict(x, fc1, fc2, name)
    assert_close(got, (retain.ACTIVATIONS[name](x @ fc1.T) @ fc2.T).transpose(1, 2), "score_fp32")
    assert retain.activation({"fc1": fc1, name: torch.empty(0)}) == name


def test_activations_are_what_models_mean_by_them() -> None:
    from transformers.activations import ACT2FN

    x = random(63)
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    for name, activation in retain.ACTIVATIONS.items():
        assert_close(activation(x), ACT2FN[names.get(name, name)](x), "score_fp32", what=name)


def test_it_costs_a_column_and_nothing_else() -> None:
    assert OBSERVER.stats == set(OBSERVER.init(env(), 2, "cpu")) == set()
    assert OBSERVER.stat_bytes(GEOMETRY) == 0 and OBSERVER.columns == {"retaining_mine"}
