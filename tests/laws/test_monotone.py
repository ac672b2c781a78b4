"""monotone: with a larger budget a prompt keeps what it kept with a smaller one, and more."""

from __future__ import annotations

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.models import tiny

BUDGETS = (9, 10, 15, 23, 24, 40, 62)


def test_a_larger_budget_keeps_a_superset(dropping: Case) -> None:
    if dropping.rhythm or not dropping.nests:
        return  # a second decision sees what the first one left; halves and representatives are no beginnings
    model, calls, smaller = tiny("llama"), drive.text(63).calls(63), None
    for n in BUDGETS:
        kept = drive.run(model, KVCache(model, dropping.with_budget(f"{n}tok")), calls).kept[-1]
        if smaller is not None:
            for layer, rows in smaller.items():
                for head, (few, many) in enumerate(zip(rows[0], kept[layer][0], strict=True)):
                    assert set(few) <= set(many), f"{n}tok, layer {layer}, head {head}"
            before, after = sum(drive.counts(smaller)), sum(drive.counts(kept))
            assert before < after or (dropping.is_bound and before == after)
        smaller = kept
