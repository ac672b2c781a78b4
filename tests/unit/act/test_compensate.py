"""One entry for all that was dropped: exact where keys are equal, never too heavy, and the same in steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.act.compensate import CompensateAct
from keyvalise.types.data import Choice, Entries, Scores, Sketch
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, random

N, H = 63, 2


def drop(entries: Entries, keep: Tensor, own: Sketch | None = None) -> Sketch:
    choice = Choice(keep)
    got, sketch = CompensateAct().act(make_env(), entries, choice, Scores(torch.zeros(1, 1, N)), own)
    assert got is choice and sketch is not None
    return sketch


def test_means_and_count_of_the_dropped() -> None:
    keys, values = random(1, H, N, 5), random(1, H, N, 5, seed=1)
    keep = torch.arange(N).expand(1, H, N) >= 40
    sketch = drop(make_entries(keys, values), keep)
    assert_close(sketch.keys[:, :, 0], keys[:, :, :40].mean(2), "attention_fp32")
    assert_close(sketch.values[:, :, 0], values[:, :, :40].mean(2), "attention_fp32")
    assert_close(sketch.logw, torch.full((1, H, 1), math.log(40)), "attention_fp32")


def test_equal_keys_are_attended_exactly_and_others_never_too_much() -> None:
    keys, values, q = random(1, H, N, 5), random(1, H, N, 5, seed=1), random(1, H, 9, 5, seed=2)
    keep = torch.arange(N).expand(1, H, N) >= 40
    for is_equal in (False, True):
        if is_equal:
            keys[:, :, :40] = keys[:, :, :1]
        sketch = drop(make_entries(keys, values), keep)
        logits = q @ keys.mT
        mass = logits[..., :40].exp().sum(-1)
        one = ((q @ sketch.keys.mT) + sketch.logw[..., None]).exp()[..., 0]
        if not is_equal:
            assert (one < mass).all(), "Jensen"
            continue
        assert_close(one, mass, "attention_fp32")
        whole = logits.softmax(-1) @ values
        rest = logits[..., 40:].exp()
        got = (rest @ values[:, :, 40:] + one[..., None] * sketch.values) / (rest.sum(-1) + one)[..., None]
        assert_close(got, whole, "attention_fp32")


def test_twice_is_once_and_nothing_new_changes_nothing() -> None:
    keys, values = random(1, H, N, 5), random(1, H, N, 5, seed=1)
    slots = torch.arange(N).expand(1, H, N)
    logw = torch.zeros(1, H, N)
    logw[..., 3], logw[..., 45] = math.log(4), math.log(2)
    entries = make_entries(keys, values, logw=logw)
    once = drop(entries, slots >= 50)
    first = drop(entries, slots >= 20)
    second = drop(
        make_entries(keys[:, :, 20:], values[:, :, 20:], logw=logw[..., 20:]), slots[..., 20:] >= 50, first
    )
    for a, b in ((second.keys, once.keys), (second.values, once.values), (second.logw, once.logw)):
        assert_close(a, b, "attention_fp32")
    assert_close(once.logw, torch.full((1, H, 1), math.log(54)), "attention_fp32")
    third = drop(make_entries(keys, values), slots >= 0, second)
    for a, b in ((third.keys, second.keys), (third.values, second.values), (third.logw, second.logw)):
        assert_same(a, b)


def test_heads_that_drop_nothing_remember_nothing() -> None:
    entries = make_entries(random(1, H, N, 5).bfloat16(), lengths=[[N, 17]])
    keep = torch.arange(N).expand(1, H, N) < 17
    sketch = drop(entries, keep)
    assert sketch.keys.dtype is torch.bfloat16
    assert torch.isneginf(sketch.logw[0, 1, 0]) and not sketch.keys[0, 1].any()
    assert_close(sketch.logw[0, 0], torch.tensor([math.log(N - 17)]), "attention_fp32")


def test_it_costs_one_entry_and_its_weight_once_something_is_dropped() -> None:
    part, shape = CompensateAct(), make_geometry()
    assert part.cost(shape, N, 7) == shape.n_kv_heads * (shape.entry_bytes + 4)
    assert part.cost(shape, N, N) == 0
    assert not part.changes_keepers
