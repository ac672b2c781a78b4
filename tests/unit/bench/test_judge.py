"""Judging in one call: what greedy generation would say, cache by cache, and observed once for all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import keyvalise
from keyvalise.bench import plan
from keyvalise.bench.judge import Exam
from keyvalise.bench.measure import Bench

RECIPES = ("keydiff", "tova", "keydiff > int4", "normxlogit", "snapkv", "h2o", "ehpc")


# With the questions seen every question has a prefill of its own, in generating.
@pytest.mark.parametrize(("query_aware", "recipes"), [(False, RECIPES), (True, RECIPES[1:6:2])])
def test_it_agrees_with_generating(query_aware: bool, recipes: tuple[str, ...]) -> None:
    texts = plan.texts(recipes, ["12%", "45%"])
    documents = plan.documents(["needle"], ["dense"], [160], [plan.FIRST_SEED], 3)
    found = []
    for quick in (False, True):
        settings = plan.Settings("reference", torch.float16, 0, None, query_aware, True, quick)
        bench = Bench(*keyvalise.reference(), settings)
        found.append(list(bench.run(plan.Plan(documents, texts, settings), set())))
    slow, fast = ({r.recipe: (r.right, r.held_bytes, r.n_tokens) for r in results} for results in found)
    assert slow == fast
    rights = [right for right, *_ in fast.values()]
    assert any(map(all, rights)) and not all(map(all, rights))
    assert all(r.answers for r in found[0]) and not any(r.answers for r in found[1])


def test_an_exam_is_passed_word_for_word() -> None:
    exam = Exam((5, 6, 7), (8, 9, 2), "eight nine")
    assert exam.text == (5, 6, 7, 8, 9)
    assert exam.is_passed([0, 0, 8, 9, 2])
    assert not exam.is_passed([0, 0, 8, 9, 3])
    assert not exam.is_passed([8, 9, 2, 0, 0])
    assert replace(exam, question=(7,)).is_passed([8, 9, 2])
