"""Documents, questions and conversations, with and without a chat template."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import keyvalise
from keyvalise.host import answer
from keyvalise.types.errors import InputError

TEMPLATE = (
    "{% for turn in messages %}<s> {{ turn.role }} : {{ turn.content | trim }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant : {% endif %}"
)
DOCUMENT = "the code of mira tolan is 47 12 ."
QUESTIONS = ("question : the code of mira tolan is", "question : the code of mira is")


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return keyvalise.reference()


@pytest.fixture
def chatty(loaded: tuple[Any, Any]) -> Any:
    tokenizer = copy.deepcopy(loaded[1])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def laid_out(tokenizer: Any, *turns: str) -> list[int]:
    """The ids of a whole conversation, as its template writes them."""
    roles = ("user", "assistant")
    chat = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def test_a_question_continues_the_document(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    laid = answer.prompt(model, tokenizer, DOCUMENT)
    whole = tokenizer(f"{DOCUMENT} {QUESTIONS[0]}").input_ids
    assert [*laid.document[0].tolist(), *laid.question(QUESTIONS[0])] == whole
    assert laid.next(QUESTIONS[0]) == laid.question(QUESTIONS[0])


def test_a_chat_template_is_laid_around_document_and_question(loaded: tuple[Any, Any], chatty: Any) -> None:
    laid = answer.prompt(loaded[0], chatty, DOCUMENT)
    got = [*laid.document[0].tolist(), *laid.question(QUESTIONS[0])]
    assert got == laid_out(chatty, f"{DOCUMENT}\n\n{QUESTIONS[0]}")


def test_a_later_question_closes_the_answer_before_it(loaded: tuple[Any, Any], chatty: Any) -> None:
    laid = answer.prompt(loaded[0], chatty, DOCUMENT)
    said = "47 12"
    ids = [*laid.document[0].tolist(), *laid.question(QUESTIONS[0])]
    ids += [*chatty(said, add_special_tokens=False).input_ids, *laid.next(QUESTIONS[1])]
    assert ids == laid_out(chatty, f"{DOCUMENT}\n\n{QUESTIONS[0]}", said, QUESTIONS[1])


def test_the_conversation_stays_in_the_cache(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    laid = answer.prompt(model, tokenizer, DOCUMENT)
    cache = answer.read(model, laid.document, "int8")
    turn = laid.question(QUESTIONS[0])
    said = answer.converse(model, cache, laid.document, turn, max_new_tokens=4)
    assert cache.seen >= laid.document.shape[1] + len(turn) + len(said) - 1


def test_answers_are_those_of_plain_generation(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    got = keyvalise.answer(model, tokenizer, DOCUMENT, QUESTIONS, max_new_tokens=6)
    for question, text in zip(QUESTIONS, got, strict=True):
        ids = tokenizer(f"{DOCUMENT} {question}", return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert tokenizer.decode(out, skip_special_tokens=True).strip() == text


def test_an_empty_document_is_refused(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="the document is empty"):
        answer.prompt(*loaded, " \n")
