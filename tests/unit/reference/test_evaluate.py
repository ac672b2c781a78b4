"""Measuring: intervals, batched answers equal to generate(), tables."""

import pytest
import torch

from keyvalise.reference import evaluate, shape
from keyvalise.reference.tasks.words import vocabulary


@pytest.fixture(scope="module")
def model():
    return shape.fresh_model(shape.config(len(vocabulary()), bos=1, eos=2, pad=3), seed=3).eval()


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (180, 200, 0.8506, 0.9343)],
)
def test_wilson_interval(right, total, low, high):
    assert evaluate.wilson(right, total) == pytest.approx((low, high), abs=2e-4)


def test_answers_are_those_of_generate(model):
    generator = torch.Generator().manual_seed(0)
    document = torch.randint(4, 300, (63,), generator=generator).tolist()
    questions = [torch.randint(4, 300, (n,), generator=generator).tolist() for n in (5, 5, 7)]
    given = list(evaluate.answer_all(model, document, questions))
    for question, answer in zip(questions, given, strict=True):
        ids = torch.tensor([document + question])
        out = model.generate(
            ids, do_sample=False, max_new_tokens=evaluate.MOST_ANSWER, eos_token_id=2, pad_token_id=3
        )
        expected = out[0, ids.shape[1] :].tolist()
        assert answer == (expected[: expected.index(2)] if 2 in expected else expected)


def test_a_row_counts_questions(model):
    row = evaluate.row(model, "needle", "dense", 130, 3)
    assert row["questions"] == 3 * min(evaluate.MOST_QUESTIONS, 4)
    assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
