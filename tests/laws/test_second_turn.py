"""second_turn: a cache that has dropped entries goes on with a conversation as one that has not."""

from __future__ import annotations

import torch

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case

FIRST, ANSWER, SECOND = 63, 5, 11


def generate(model: object, cache: KVCache, ids: torch.Tensor, n: int = ANSWER) -> torch.Tensor:
    """Greedy tokens behind ids [B, T]."""
    return model.generate(  # type: ignore[attr-defined, no-any-return]
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=n, do_sample=False
    )


def test_the_full_history_equals_only_the_new_tokens(case: Case) -> None:
    model = case.model
    ids = drive.text(FIRST + SECOND).ids
    full, short = KVCache(model, case.text), KVCache(model, case.text)
    said = generate(model, full, ids[:, :FIRST])
    history = torch.cat([said, ids[:, FIRST:]], 1)
    assert full.seen == FIRST + ANSWER - 1
    widths: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(
            (kwargs.get("input_ids", args[0] if args else None)).shape[1]
        ),
        with_kwargs=True,
    )
    try:
        got = generate(model, full, history)
    finally:
        hook.remove()
    assert widths == [SECOND + 1, *[1] * (ANSWER - 1)], "only what is new may be fed"
    text = drive.Text(got, torch.ones_like(got))
    calls = text.calls(FIRST, *[1] * (ANSWER - 1), SECOND + 1, *[1] * (ANSWER - 1))
    trail = drive.run(model, short, calls)
    assert trail.kept[-1] == drive.held(full)
    assert full.seen == short.seen == got.shape[1] - 1
    for i in range(1, ANSWER):
        assert torch.equal(trail.logits[-i][:, -1].argmax(-1), got[:, -i])


def test_the_second_prompt_is_decided_on_as_well(dropping: Case) -> None:
    if dropping.rhythm:
        return  # acts everywhere, prompts or not
    model = dropping.model
    cache = KVCache(model, dropping.with_budget("20tok"))
    calls = drive.text(FIRST + 41).calls(FIRST, 1, 1, 1, 38)
    kept = drive.run(model, cache, calls).kept
    layers = [i for i in kept[0] if i in cache.recipe.stages[0].layers]
    for together in [[i] for i in layers] if dropping.is_even else [layers]:
        before, after = ([len(head) for i in together for head in one[i][0]] for one in (kept[0], kept[-1]))
        assert sum(before) == sum(after) or dropping.is_bound, f"layers {together}"
    for layer in layers:
        newest = {o for head in kept[-1][layer][0] for o in head if o >= FIRST}
        assert newest, "nothing of the second prompt was kept"


def test_where_the_prompt_ends_can_be_said(dropping: Case) -> None:
    model, text = dropping.model, drive.text(FIRST + SECOND)
    said = KVCache(model, dropping.text)
    said.prompt_ends(FIRST)
    (one,) = drive.run(model, said, text.calls(FIRST + SECOND)).kept
    after = KVCache(model, dropping.text)
    after.prompt_ends(FIRST)
    apart = drive.run(model, after, text.calls(FIRST, SECOND))
    assert one == apart.kept[-1]
    for layer, rows in {} if dropping.decodes else apart.kept[0].items():
        for before, now in zip(rows[0], apart.kept[-1][layer][0], strict=True):
            assert now == before + list(range(FIRST, FIRST + SECOND)), "a question is appended, not judged"
