"""Training sequences: exact length, answers marked, questions only about what has been written."""

import pytest

from keyvalise.reference import tasks
from keyvalise.reference.tasks import stream, words

INVERSE = {index: word for word, index in words.vocabulary().items()}


def sample(name, tokens=400, seed="a"):
    return stream.sample([(7, tasks.RECIPES[name])], tokens, seed)


@pytest.mark.parametrize("name", tasks.names())
def test_length_marks_and_determinism(name):
    one = sample(name)
    assert len(one.ids) == len(one.answers) == 400
    assert one == sample(name)
    assert one != sample(name, seed="b")
    assert set(one.answers) == {-1, 7}


def test_marked_tokens_are_the_answers_and_their_end():
    for seed in range(10):
        one = sample("needle", seed=str(seed))
        text = [INVERSE[index] for index in one.ids]
        marked = [word for word, mark in zip(text, one.answers, strict=True) if mark == 7]
        assert all(word == "</s>" for word in marked[2::3])
        assert all(word in words.DIGITS for word in marked[0::3] + marked[1::3])


def test_a_needle_is_asked_after_it_was_stated():
    for seed in range(10):
        text = " ".join(INVERSE[index] for index in sample("needle", seed=str(seed)).ids)
        for end in [place for place in range(len(text)) if text.startswith("</s>", place)]:
            answer = text[:end].split()[-2:]
            subject = text[:end].split()[-5:-3]
            before = text[: text[:end].rindex("question :")]
            assert " ".join(subject) in before
            assert " ".join(answer) in before


def test_two_tasks_share_a_sequence():
    recipes = [(0, tasks.RECIPES["needle"]), (1, tasks.RECIPES["copy"])]
    assert set(stream.sample(recipes, 600, "a").answers) == {-1, 0, 1}


@pytest.mark.parametrize("name", tasks.names())
def test_no_question_is_asked_twice(name):
    text = " ".join(INVERSE[index] for index in sample(name, 1024).ids)
    asked = [part.split("</s>")[0] for part in text.split("question : ")[1:]]
    assert len(asked) == len(set(asked)) >= 3
