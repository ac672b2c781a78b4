"""crop_is_undo: what a draft brought can be taken back, token by token, as if it had never come."""

from __future__ import annotations

import pytest
import torch

from keyvalise import KVCache
from keyvalise.types.errors import HostError
from tests.support import drive, oracle
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

PROMPT, DRAFT = 61, 7


def text(accepted: int) -> tuple[drive.Text, drive.Text]:
    """(prompt, a draft, …) and (prompt, its accepted beginning, other tokens)."""
    drafted, other = drive.text(PROMPT + DRAFT + 4), drive.text(PROMPT + DRAFT + 4, seed=5)
    ids = torch.cat([drafted.ids[:, : PROMPT + accepted], other.ids[:, PROMPT + accepted :]], 1)
    return drafted, drive.Text(ids, other.mask)


@pytest.mark.parametrize(
    "accepted", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, DRAFT - 1, DRAFT))]
)
def test_a_draft_taken_back_never_was(case: Case, accepted: int) -> None:
    model = case.model
    drafted, real = text(accepted)
    cache, straight = (KVCache(model, case.text) for _ in range(2))
    for one in (cache, straight):
        one.prompt_ends(PROMPT)
    cache.activate_past_recording()
    drive.run(model, cache, drafted.calls(PROMPT, DRAFT))
    cache.crop(-(DRAFT - accepted))
    want = drive.run(model, straight, real.calls(PROMPT, *[1] * (accepted + 3)))
    assert cache.seen == PROMPT + accepted
    assert drive.held(cache) == want.kept[accepted]
    for i in range(3):
        call = real.calls(PROMPT + accepted, *[1] * 3)[i + 1]
        got = drive.run(model, cache, [call])
        cache.crop(0)
        assert_close(got.logits[0], want.logits[accepted + 1 + i], case.bound, what=f"step {i}")
        assert got.kept[0] == want.kept[accepted + 1 + i], f"step {i}"


def test_drafts_again_and_again(case: Case) -> None:
    model, drafted = case.model, drive.text(PROMPT + 40, seed=3)
    cache, straight = (KVCache(model, case.text) for _ in range(2))
    for one in (cache, straight):
        one.prompt_ends(PROMPT)
    cache.activate_past_recording()
    drive.run(model, cache, drafted.calls(PROMPT))
    seen = PROMPT
    for accepted in (1, 5, 0, 2):
        drive.run(model, cache, drafted.calls(seen, 5)[1:])
        cache.crop(-(5 - accepted))
        seen += accepted
    want = drive.run(model, straight, drafted.calls(PROMPT, *[1] * (seen - PROMPT)))
    assert drive.held(cache) == want.kept[-1]
    for a, b in zip(drive.snapshot(cache), drive.snapshot(straight), strict=True):
        assert_close(a, b, case.bound)


def test_without_a_draft_entries_leave_by_ordinal(case: Case) -> None:
    model, calls = case.model, drive.text(PROMPT + 8).calls(PROMPT, *[1] * 4, 1, 1, 1)
    cache = KVCache(model, case.text)
    drive.run(model, cache, calls[:5])
    before = drive.held(cache)
    cache.crop(-9)
    edge = PROMPT + 4 - 9
    assert cache.seen == edge
    after = {
        i: [[[o for o in head if o < edge] for head in row] for row in rows] for i, rows in before.items()
    }
    assert drive.held(cache) == after
    cache.crop(0)
    assert drive.held(cache) == after


def test_after_a_crop_positions_are_right(forgetting: Case) -> None:
    if forgetting.rhythm:
        return
    model, drafted = tiny("llama"), drive.text(PROMPT + 8)
    cache = KVCache(model, forgetting.text)
    drive.run(model, cache, drafted.calls(PROMPT, 1, 1))
    cache.crop(-2)
    first, *steps = drafted.calls(PROMPT, 1, 1, 1)
    got, before = oracle.through(model, cache, steps)
    want = oracle.masked(model, [first, *steps], [oracle.Before({}, {}), *before])
    for i, (a, b) in enumerate(zip(got, want[1:], strict=True)):
        assert_close(a, b, "logits_fp32", what=f"step {i}")


def test_a_crop_beyond_the_beginning_is_refused() -> None:
    model = tiny("llama")
    cache = KVCache(model)
    drive.run(model, cache, drive.text(9).calls(9))
    with pytest.raises(HostError, match="cannot take back 10 tokens, only 9 were seen"):
        cache.crop(-10)
    with pytest.raises(ValueError, match="negative number"):
        cache.crop(3)
