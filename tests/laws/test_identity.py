"""identity: with room for everything and nothing coded, the model answers as it did before."""

from __future__ import annotations

import functools

import torch
from transformers import DynamicCache

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

WIDTHS = (63, 1, 1, 1, 9, 1)


@functools.cache
def stock(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    """Logits of transformers' own cache."""
    model = tiny("llama")
    return drive.run(model, DynamicCache(config=model.config), drive.text(*lengths).calls(*WIDTHS)).logits


def check(recipe: str, lengths: tuple[int, ...]) -> None:
    """Prefill bit for bit, decode and a second turn within the table's bound, everything held.

    A stage that cuts the prompt itself makes more than one attention of it, whose sums run in another order.
    """
    model, calls, want = tiny("llama"), drive.text(*lengths).calls(*WIDTHS), stock(lengths)
    cache = KVCache(model, recipe)
    is_cut = any(when.phase is None for stage in cache.recipe.stages for when in stage.when)
    for i, call in enumerate(calls):
        (got,) = drive.run(model, cache, [call]).logits
        bound = "exact" if i == 0 and not is_cut else "logits_fp32"
        assert_close(got[call.real], want[i][call.real], bound, what=f"{recipe}, call {i}")
    for rows in drive.held(cache).values():
        for heads, n in zip(rows, calls[-1].mask.sum(-1).tolist(), strict=True):
            assert heads == [list(range(n))] * 4


def test_more_tokens_than_there_are(raw: Case) -> None:
    check(raw.with_budget("300tok"), (76, 50, 26))


def test_a_full_share(raw: Case) -> None:
    if any(stage.budget and stage.budget.of_prompt for stage in raw.recipe.stages):
        return  # a share of the prompt does not grow with the answer
    check(raw.with_budget("100%"), (76,))


def test_codes_that_nothing_has_left_for(entry: Case) -> None:
    if entry.recipe.code is not None:
        check(f"{entry.text.partition('(')[0]}(residual=300)", (76, 50, 26))
