"""protected: what a recipe protects is there after every decision, inside the count."""

from __future__ import annotations

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case, of_catalogue
from tests.support.models import tiny


def test_sinks_and_recents_stay(dropping_entry: Case) -> None:
    assert dropping_entry.arguments is not None
    settings = {"sinks": 3, "recent": 5}
    assert dropping_entry.arguments & settings.keys(), "a recipe that drops lets its user protect"
    mine = {name: n for name, n in settings.items() if name in dropping_entry.arguments}
    model, lengths = tiny("llama"), (69, 45)
    case = of_catalogue(dropping_entry.name, "17tok", **mine)
    calls = drive.text(*lengths).calls(63, *[1] * 6)
    trail = drive.run(model, KVCache(model, case.text), calls)
    for call, kept in zip(calls, trail.kept, strict=True):
        for rows in kept.values():
            for heads, seen in zip(rows, call.mask.sum(-1).tolist(), strict=True):
                for head in heads:
                    assert set(range(mine.get("sinks", 0))) <= set(head)
                    assert set(range(seen - mine.get("recent", 0), seen)) <= set(head)
    counts = [sum(map(len, heads)) for rows in trail.kept[0].values() for heads in rows]
    is_met = sum(counts) <= 3 * 2 * 4 * 17 if case.is_bound else sum(counts) == 3 * 2 * 4 * 17
    assert is_met, "the protected are inside the count"


def test_a_share_protects_the_sinks_and_then_the_newest(dropping_entry: Case) -> None:
    """Where more is protected than a share allows."""
    if not {"sinks", "recent"} <= (dropping_entry.arguments or set()):
        return
    model = tiny("llama")
    case = of_catalogue(dropping_entry.name, "25%", sinks=2, recent=40)
    (kept,) = drive.run(model, KVCache(model, case.text), drive.text(63).calls(63)).kept
    for rows in kept.values():
        for head in rows[0]:
            assert head[:2] == [0, 1]
            assert head[2:] == list(range(63 - len(head) + 2, 63))


def test_nothing_else_is_protected(dropping_entry: Case) -> None:
    """A recipe protects what its paper protects: with a budget of one token nothing else is left."""
    model = tiny("llama")
    stage = dropping_entry.recipe.stages[0]
    if stage.act.sinks or stage.act.recent:
        return
    (kept,) = drive.run(
        model, KVCache(model, dropping_entry.with_budget("2tok")), drive.text(63).calls(63)
    ).kept
    newest = sum(62 in head for rows in kept.values() for head in rows[0])
    first = sum(0 in head for rows in kept.values() for head in rows[0])
    assert newest < 12
    assert first < 12
