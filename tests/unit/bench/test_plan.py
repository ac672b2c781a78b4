"""Plans: which recipes at which budgets, which documents, and keys that find a result again."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from keyvalise.bench import plan
from keyvalise.types.errors import InputError, RecipeError, UnknownName


def test_every_recipe_at_every_budget_and_full_first():
    assert plan.texts(["snapkv", "kivi @ 30%", "full"], ["25%", "128 tok"]) == (
        "full",
        "snapkv @ 25%",
        "snapkv @ 128tok",
        "kivi @ 30%",
    )


def test_without_budgets_the_recipe_speaks_for_itself():
    assert plan.texts(["int4", "snapkv"], []) == ("full", "int4", "snapkv")


def test_recipes_are_read_before_anything_is_measured():
    with pytest.raises(UnknownName, match="snapkv"):
        plan.texts(["snapvk"], ["25%"])
    with pytest.raises(RecipeError, match="cannot read the budget 'much'"):
        plan.texts(["snapkv"], ["much"])


def test_documents_are_all_combinations():
    found = plan.documents(["needle", "copy"], ["sparse", "dense"], [256, 512], [1, 2, 3], 4)
    assert len(set(found)) == len(found) == 24
    assert {document.most_questions for document in found} == {4}


@pytest.mark.parametrize(
    ("names", "kinds", "lengths", "error", "words"),
    [
        (["neddle"], ["sparse"], [512], UnknownName, "unknown task 'neddle'; nearest: needle"),
        (["needle"], ["spare"], [512], UnknownName, "unknown kind of document 'spare'; nearest: sparse"),
        (["needle"], ["sparse"], [7], InputError, "at least 128 tokens, got 7"),
    ],
)
def test_impossible_documents(names, kinds, lengths, error, words):
    with pytest.raises(error, match=words):
        plan.documents(names, kinds, lengths, [1], 4)


def test_a_document_asks_its_first_questions():
    document = plan.Document("needle", "dense", 300, 5, most_questions=3)
    task, whole = document.generate(), dataclasses.replace(document, most_questions=99).generate()
    assert task.document == whole.document
    assert task.questions == whole.questions[:3] and task.answers == whole.answers[:3]
    assert len(whole.questions) > 3


def test_keys_tell_everything_apart_that_changes_a_result():
    document = plan.Document("needle", "sparse", 256, 1)
    settings = plan.Settings("reference", torch.float16)
    variants = [
        (document, "full", settings),
        (dataclasses.replace(document, seed=2), "full", settings),
        (dataclasses.replace(document, most_questions=3), "full", settings),
        (document, "snapkv @ 25%", settings),
        (document, "full", dataclasses.replace(settings, dtype=torch.bfloat16)),
        (document, "full", dataclasses.replace(settings, query_aware=True)),
        (document, "full", dataclasses.replace(settings, model="other")),
    ]
    keys = [plan.Plan((d,), (text,), s).key(d, text) for d, text, s in variants]
    assert len(set(keys)) == len(variants)
    again = plan.Plan((document, variants[1][0]), ("full", "int4"), dataclasses.replace(settings))
    assert again.key(dataclasses.replace(document), "full") == keys[0]
    assert len(again) == len(list(again.cases())) == 4
