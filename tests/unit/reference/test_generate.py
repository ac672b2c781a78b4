"""What every generated task promises: the same document again, its length kept, answers unique."""

import re

import pytest

from keyvalise.reference import tasks
from keyvalise.reference.tasks import words

EVERY = [(name, kind) for name in tasks.names() for kind in tasks.KINDS]
FRAME = rf"the (\w+) ({'|'.join(words.LINKS)}) (.+?) ({'|'.join(words.COPULAS)}) "
STATED_ONCE = ("needle", "multikey", "records", "copy", "override", "choice")


def statements(document: str, attribute: str, subject: str) -> list[str]:
    """What the document says in the common frame about one attribute of one subject."""
    found = []
    for sentence in document.split(" . "):
        match = re.search(FRAME, sentence)
        if match and match[1] == attribute and match[3] == subject:
            found.append(sentence[match.end() :])
    return found


def asked_about(question: str) -> tuple[str, str]:
    match = re.search(FRAME, question + " ")
    assert match is not None
    return match[1], match[3]


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_same_arguments_give_the_same_document(name, kind):
    first = tasks.generate(name, tokens=300, seed=5, kind=kind)
    assert first == tasks.generate(name, tokens=300, seed=5, kind=kind)
    others = [
        tasks.generate(name, tokens=300, seed=6, kind=kind),
        tasks.generate(name, tokens=301, seed=5, kind=kind),
        tasks.generate(name, tokens=300, seed=5, kind=kind, split="train"),
    ]
    assert all(other.document != first.document for other in others)


@pytest.mark.parametrize(("name", "kind"), EVERY)
@pytest.mark.parametrize("tokens", [512, 1000, 4096])
def test_length_is_kept_within_three_percent(name, kind, tokens):
    task = tasks.generate(name, tokens=tokens, seed=3, kind=kind)
    length = 1 + len(task.document.split())
    assert 0.97 * tokens <= length <= tokens


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_there_are_questions_and_each_has_an_answer(name, kind):
    task = tasks.generate(name, tokens=1024, seed=11, kind=kind)
    assert (task.name, task.kind) == (name, kind)
    assert len(task.questions) == len(task.answers) >= 1
    assert all(question.startswith("question : ") for question in task.questions)
    assert len(set(task.questions)) == len(task.questions)
    known = words.vocabulary()
    for text in (task.document, *task.questions, *task.answers):
        assert set(text.split()) <= known.keys()


@pytest.mark.parametrize("name", STATED_ONCE)
@pytest.mark.parametrize("kind", tasks.KINDS)
def test_what_is_asked_is_stated_once_and_is_the_answer(name, kind):
    task = tasks.generate(name, tokens=1024, seed=21, kind=kind)
    for question, answer in zip(task.questions, task.answers, strict=True):
        attribute, subject = asked_about(question)
        (said,) = statements(task.document, attribute, subject)
        if name == "choice":
            answer = question.split(f" {answer} ")[0][-5:]
        assert said.startswith(answer)


def test_two_values_stand_in_the_order_of_the_document():
    task = tasks.generate("multivalue", tokens=1024, seed=4, kind="dense")
    for question, answer in zip(task.questions, task.answers, strict=True):
        said = statements(task.document, *asked_about(question))
        assert [value[:5] for value in said] == answer.split(" then ")


def test_variables_take_two_hops():
    task = tasks.generate("variables", tokens=1024, seed=4, kind="dense")
    for question, answer in zip(task.questions, task.answers, strict=True):
        attribute, target = asked_about(question)
        (link,) = statements(task.document, attribute, target)
        source = link.split()[0]
        (said,) = statements(task.document, attribute, source)
        assert said.startswith(answer)


def test_the_frequent_word_is_more_frequent_than_any_other():
    task = tasks.generate("frequent", tokens=1024, seed=4, kind="dense")
    for question, answer in zip(task.questions, task.answers, strict=True):
        called = [word.split()[0] for word in statements(task.document, *asked_about(question))]
        assert all(called.count(answer) > called.count(word) for word in set(called) - {answer})


def test_facts_in_the_weights_are_not_in_the_document_and_overridden_ones_differ():
    stored = words.stored_facts()
    for question, answer in _pairs("facts"):
        attribute, land = asked_about(question)
        assert stored[attribute, land] == answer
    task = tasks.generate("facts", tokens=1024, seed=9, kind="dense")
    assert not any(statements(task.document, *asked_about(question)) for question in task.questions)
    for question, answer in _pairs("override"):
        attribute, land = asked_about(question)
        assert stored[attribute, land] != answer


def test_a_fewshot_question_names_a_thing_the_document_never_labels():
    task = tasks.generate("fewshot", tokens=1024, seed=9, kind="dense")
    for question, answer in zip(task.questions, task.answers, strict=True):
        sign, thing = asked_about(question)
        assert not statements(task.document, sign, thing)
        (row,) = [row for row in words.CATEGORIES if thing in row]
        labels = {said.split()[0] for other in row for said in statements(task.document, sign, other)}
        assert labels == {answer}


def _pairs(name):
    task = tasks.generate(name, tokens=1024, seed=9, kind="dense")
    return zip(task.questions, task.answers, strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "needel"}, "unknown task 'needel'; nearest: needle"),
        ({"name": "needle", "kind": "spars"}, "unknown kind 'spars'; nearest: sparse"),
        ({"name": "needle", "split": "test"}, "unknown split 'test'; nearest: "),
        ({"name": "needle", "tokens": 20}, "at least 128 tokens, got 20"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks.generate(**{"tokens": 512, "seed": 0} | arguments)


def test_every_task_is_described():
    assert tuple(tasks.DESCRIPTIONS) == tasks.names()
