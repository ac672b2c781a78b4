"""identity: with room for everything and nothing coded, the model answers as it did before."""

from __future__ import annotations

from transformers import DynamicCache

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close, assert_same
from tests.support.models import tiny

PROMPT, STEPS = 63, 6


def check(recipe: str) -> None:
    """Prefill bit for bit, decode and a second turn within the table's bound, everything held."""
    model = tiny("llama")
    for lengths in ((82,), (82, 50, 26)):
        calls = drive.text(*lengths).calls(PROMPT, *[1] * STEPS, 9)
        want = drive.run(model, DynamicCache(config=model.config), calls).logits
        trail = drive.run(model, KVCache(model, recipe), calls)
        for i, (call, got, stock) in enumerate(zip(calls, trail.logits, want, strict=True)):
            same = assert_same if i == 0 else lambda a, b, what: assert_close(a, b, "logits_fp32", what=what)
            same(got[call.real], stock[call.real], what=f"{recipe}, call {i}")
        seen = calls[-1].mask.sum(-1).tolist()
        assert all(heads == [list(range(n))] * 4 for rows in trail.kept[-1].values()
                   for heads, n in zip(rows, seen, strict=True))  # fmt: skip


def test_more_tokens_than_there_are(raw: Case) -> None:
    check(raw.with_budget("300tok"))


def test_a_full_share(raw: Case) -> None:
    if any(stage.budget and stage.budget.of_prompt for stage in raw.recipe.stages):
        return  # a share of the prompt does not grow with the answer
    check(raw.with_budget("100%"))


def test_codes_that_nothing_has_left_for(entry: Case) -> None:
    if entry.codes:
        check(f"{entry.text.partition('(')[0]}(residual=300)")
