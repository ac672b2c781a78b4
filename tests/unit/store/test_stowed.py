"""Entries in slow tiers: where they lie changes no answer, what is read is counted, what is lost is said."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from keyvalise import KVCache
from keyvalise.store.stowed import Hot, Stowed
from keyvalise.types.data import Env
from keyvalise.types.errors import NoRoom, TierLost
from keyvalise.types.geometry import Geometry
from keyvalise.types.slow import Slow
from tests.support import drive, reading, segments
from tests.support.models import tiny
from tests.support.segments import Runs

SHAPE = Geometry(1, 6, 3, 8, 5, torch.float32, 0.4)
COUNTS = [[63, 63, 63], [7, 30, 0]]
ROW = 4 * (8 + 5)
TIERS = ("host", "disk")
READERS = (
    "pages(4) > each > read(9, sinks=2)",
    "clusters(4, segment=20) > read(9, sinks=2) > estimate(20%)",
    "heads > read(100%, sinks=0)",
)


def placed(text: str, tier: str, slow: Slow, kind: str = "ragged", cache: str = "0"):  # type: ignore[no-untyped-def]
    """The entries in units, in a tier."""
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    env = Env(0, SHAPE, slow=slow)
    return reading.indexed(runs, f"{text} > {tier}(cache={cache})", kind, (17, 40), env)


@pytest.mark.parametrize("kind", ["ragged", "coded"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("text", READERS)
@pytest.mark.parametrize("n", [1, 3])
def test_where_entries_lie_changes_no_answer(text: str, tier: str, kind: str, n: int) -> None:
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    near = reading.indexed(runs, text, kind, (17, 40))
    queries = segments.queries(SHAPE, 2, n)
    want = near.attend(queries)[0]
    for cache in ("0", "50%"):
        far = placed(text, tier, Slow(), kind, cache)
        for _ in range(2):
            got = far.attend(queries)[0]
            assert torch.allclose(got.out, want.out, atol=1e-6)
            assert torch.allclose(got.lse, want.lse, atol=1e-6)
    assert torch.equal(far.entries().keys(), near.entries().keys())


@pytest.mark.parametrize("tier", TIERS)
def test_what_is_read_is_counted(tier: str) -> None:
    slow = Slow()
    segment, queries = placed(READERS[1], tier, slow), segments.queries(SHAPE, 2, 1)
    reads, _ = segment.search(queries)
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    n_read = int(reading.members(segment, runs, reads.exact)[:, ::2].sum())
    slow.step()
    segment.attend(queries)
    assert slow.step_bytes == n_read * ROW > 0
    total = sum(map(sum, COUNTS)) - 2 * (3 + 2)
    assert slow.held == {tier: total * ROW}
    slow.step()
    segment.attend(segments.queries(SHAPE, 2, 2))
    assert slow.step_bytes == total * ROW, "several queries read everything once"


@pytest.mark.parametrize("tier", TIERS)
def test_what_was_read_lately_is_not_read_again(tier: str) -> None:
    slow = Slow()
    segment, queries = placed(READERS[0], tier, slow, cache="100%"), segments.queries(SHAPE, 2, 1)
    segment.attend(queries)
    slow.step()
    segment.attend(queries)
    assert slow.step_bytes == 0
    held = [tensor.numel() for field, _, tensor in segment.tensors() if field == "hot"]
    assert 0 < sum(held) <= slow.held[tier]


def test_the_latest_units_stay_within_their_room() -> None:
    hot = Hot(100)
    for start in range(9):
        hot.put(start, torch.zeros(3, 10, dtype=torch.uint8))
        hot.get(0, 3)
    assert hot.n_bytes == 90 and sorted(hot.known) == [0, 7, 8]
    hot.put(50, torch.zeros(11, 10, dtype=torch.uint8))
    assert hot.get(50, 11) is None and hot.get(7, 2) is None


def test_two_heads_are_near_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = placed(READERS[2], "host", Slow())
    pieces = 0
    for run in segment.runs:
        assert isinstance(run, Stowed)
        for home, piece in run._one_by_one():
            assert [n > 0 for n in piece.counts] == [other == home for other in range(6)]
            pieces += 1
    assert pieces >= 5


def test_room_is_given_back() -> None:
    slow = Slow()
    segment = placed(READERS[1], "disk", slow)
    assert slow.held["disk"] > 0
    del segment
    gc.collect()
    assert slow.held["disk"] == 0


def test_a_limit_is_said_before_anything_is_moved() -> None:
    slow = Slow(host_bytes=1000)
    with pytest.raises(
        NoRoom, match=r"would take \d+ bytes, and 1000 are allowed; allow more with --host-memory"
    ):
        placed(READERS[1], "host", slow)
    assert slow.held.get("host", 0) <= 1000


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(TierLost, match="entries cannot be written to /nowhere/at/all"):
        placed(READERS[1], "disk", Slow(folder="/nowhere/at/all"))


def test_a_file_that_was_cut_is_noticed() -> None:
    segment, queries = placed(READERS[1], "disk", Slow()), segments.queries(SHAPE, 2, 1)
    for run in segment.runs:
        if isinstance(run, Stowed):
            os.ftruncate(run.spill.number, 10)  # type: ignore[attr-defined]
    with pytest.raises(TierLost, match="their file has become shorter"):
        segment.attend(queries)


@pytest.mark.parametrize("tier", TIERS)
def test_what_is_foreseen_is_read_once(tier: str) -> None:
    slow = Slow()
    segment, queries = placed("heads > read(100%, sinks=0)", tier, slow), segments.queries(SHAPE, 2, 1)
    want, _ = segment.attend(queries)
    slow.step()
    segment.foresee()
    segment.foresee()
    ahead = next(run for run in segment.runs if isinstance(run, Stowed)).hot.coming
    assert ahead is not None and len(ahead.result()) > 0
    got, _ = segment.attend(queries)
    assert slow.step_bytes == sum(map(sum, COUNTS)) * ROW
    assert torch.equal(got.out, want.out) and torch.equal(got.lse, want.lse)


def test_only_what_is_read_whatever_is_asked_is_foreseen() -> None:
    slow = Slow()
    segment = placed(READERS[0], "disk", slow)
    segment.foresee()
    far = [run for run in segment.runs if isinstance(run, Stowed)]
    assert far and all(run.hot.coming is None for run in far)


def test_a_layer_begins_to_read_while_the_one_before_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, text, seen = tiny("llama"), drive.text(62), []
    cache = KVCache(model, "heads > read(100%, sinks=0, recent=3, block=5) > disk(cache=0)")
    drive.run(model, cache, text.calls(60, 1))
    answer, begin = Stowed.attend, Stowed.foresee
    monkeypatch.setattr(Stowed, "attend", lambda self, q: seen.append("answers") or answer(self, q))
    monkeypatch.setattr(Stowed, "foresee", lambda self: seen.append("begins") or begin(self))
    drive.run(model, cache, text.calls(60, 1, 1)[2:])
    # Every layer but the last begins the next one's, then answers, which finds its own begun.
    assert seen == ["begins", "answers", "begins"] * 2 + ["answers", "begins"]
