"""repeatable: the same tokens and the same seed give the same bits; another seed changes draws and nothing
else.
"""

from __future__ import annotations

import torch

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_same
from tests.support.models import tiny

WIDTHS = (63, 1, 1, 9, 1)


def test_twice_the_same(case: Case) -> None:
    model, calls = tiny("llama"), drive.text(75, 40).calls(*WIDTHS)
    one, two = (drive.run(model, KVCache(model, case.text, seed=5), calls) for _ in range(2))
    assert one.kept == two.kept
    for a, b in zip(one.logits, two.logits, strict=True):
        assert_same(a, b)
    assert one.cache.nbytes == two.cache.nbytes


def test_a_seed_matters_where_lots_are_drawn(case: Case) -> None:
    model, calls = tiny("llama"), drive.text(75, 40).calls(*WIDTHS)
    one, two = (drive.run(model, KVCache(model, case.text, seed=seed), calls) for seed in (0, 1))
    is_equal = all(torch.equal(a, b) for a, b in zip(one.logits, two.logits, strict=True))
    assert is_equal == (not case.draws)
    assert case.draws or one.kept == two.kept
