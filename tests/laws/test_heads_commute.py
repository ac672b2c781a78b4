"""heads_commute: no head is special; with its heads renamed, a model keeps the same under other names."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache
from keyvalise.ops import hashing
from keyvalise.types.data import Entries, Env
from tests.support import drive, profiles
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

ORDER = (2, 0, 3, 1)
"""The renamed model's kv head j is the other's ORDER[j]."""


@functools.cache
def renamed(dtype: torch.dtype) -> Any:
    """The tiny Llama with kv heads, and the query heads that read them, in another order."""
    keyvalise.detach(tiny("llama", dtype))
    model = copy.deepcopy(tiny("llama", dtype))
    for layer in model.model.layers:
        attention = layer.self_attn
        for projection in (attention.k_proj, attention.v_proj, attention.q_proj):
            projection.weight.data = _moved(projection.weight.data)
        attention.o_proj.weight.data = _moved(attention.o_proj.weight.data.T).T.contiguous()
    return profiles.give(model, ORDER)


def _moved(weight: Tensor) -> Tensor:
    return weight.view(len(ORDER), -1, weight.shape[1])[list(ORDER)].reshape(weight.shape)


def test_renaming_heads_changes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.names_heads:
        return  # "representatives_mean" has the other anchors
    calls = drive.text(72, 50).calls(63, 1, 1, 6, 1)
    want = drive.run(case.model, KVCache(case.model, case.text), calls)
    model = renamed(case.model.dtype)

    def renamed_draws(env: Env, part: str, entries: Entries) -> Tensor:
        return hashing.uniform(env.seed, part, env.layer, torch.tensor(ORDER), entries.ordinals)

    def renamed_pairs(env: Env, part: str, heads: Tensor, queries: Tensor, entries: Tensor) -> Tensor:
        group = heads.shape[1]
        return original(
            env, part, torch.tensor(ORDER)[heads // group] * group + heads % group, queries, entries
        )

    original = hashing.per_pair
    monkeypatch.setattr(hashing, "per_entry", renamed_draws)
    monkeypatch.setattr(hashing, "per_pair", renamed_pairs)
    got = drive.run(model, KVCache(model, case.text), calls)
    is_same = True
    for i, (mine, theirs) in enumerate(zip(got.kept, want.kept, strict=True)):
        for layer, rows in mine.items():
            for row, heads in enumerate(rows):
                for j, head in enumerate(heads):
                    other = theirs[layer][row][ORDER[j]]
                    assert len(set(head) ^ set(other)) <= 1, f"call {i}, layer {layer}, row {row}, head {j}"
                    is_same &= head == other
        if is_same:
            assert_close(got.logits[i][calls[i].real], want.logits[i][calls[i].real], case.bound)
    assert is_same or any(not stage.allocate.is_uniform for stage in case.recipe.stages)


def test_the_heads_of_the_tiny_model_differ(dropping_entry: Case) -> None:
    """Or else the law above would be empty."""
    if dropping_entry.is_bound:
        return  # which heads keep all, and so are alike, is a profile's business
    kept = drive.run(
        tiny("llama"), KVCache(tiny("llama"), dropping_entry.text), drive.text(63).calls(63)
    ).kept[0]
    one_set = dropping_entry.has("recency", "layer", "voters", "norm_logit", "evaluators")
    assert all((rows[0][0] == rows[0][1]) == one_set for rows in kept.values())
