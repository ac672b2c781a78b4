"""Lessons: what is asked stands in the text, what is labelled are questions and answers, and nothing else."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise.reference import tasks
from keyvalise.train import duo, lessons
from keyvalise.types.errors import InputError


class Letters:
    """A tokenizer of single characters, with a beginning and no end."""

    bos_token_id, eos_token_id = 0, None

    def __call__(self, text: str, **options: Any) -> Any:
        return SimpleNamespace(input_ids=[ord(letter) for letter in text])

    def decode(self, ids: torch.Tensor) -> str:
        return "".join(map(chr, ids.tolist()))


class Reader:
    """All that a lesson asks of a model."""

    device = torch.device("cpu")

    class config:
        max_position_embeddings = 9000

        @staticmethod
        def get_text_config(**options: Any) -> Any:
            return Reader.config


TEXT = " ".join(f"On day {i} nothing happened at all." for i in range(400))


def test_a_page_asks_what_its_document_says() -> None:
    model, tokenizer = keyvalise.reference()
    page = lessons.pages(model, tokenizer, duo.TASKS, (192, 384), n=4, seed=1)
    for step in range(5):
        made = page(step)
        assert made.ids.shape == made.labels.shape == made.answers.shape
        assert bool((made.labels | ~made.answers).all()) and 150 < made.ids.shape[1] < 512
        first = int(made.labels[0].int().argmax())
        assert bool(made.labels[0, first:].all())
        text = tokenizer.decode(made.ids[0, first:])
        assert 1 <= text.count("question :") <= 4 and text.count("</s>") == text.count("question :")
        document = tokenizer.decode(made.ids[0, :first])
        said = tokenizer.decode(made.ids[0][made.answers[0]]).split()
        assert len(said) >= 2 and set(said) <= {*document.split(), "then"}
    assert torch.equal(page(2).ids, made.ids) is False and torch.equal(page(4).ids, made.ids)


def test_pages_come_from_the_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = keyvalise.reference()
    asked, generate = [], tasks.generate

    def noting(name: str, **options: Any) -> Any:
        asked.append(options["split"])
        return generate(name, **options)

    monkeypatch.setattr(tasks, "generate", noting)
    lessons.pages(model, tokenizer, duo.TASKS, (192, 192))(0)
    lessons.haystack(100)
    assert asked == ["train", "train"]


def test_passkeys_lie_between_sentences_and_are_asked_at_the_end() -> None:
    made = lessons.passkeys(Reader, Letters(), TEXT, (5000, 5000), n=3, seed=4)(7)
    text = Letters().decode(made.ids[0])
    first = int(made.labels[0].int().argmax())
    document, asked = text[1:first], text[first:]
    assert text[0] == "\0" and abs(first - 5000) < 60
    keys = {}
    for ordinal in ("first", "second", "third"):
        before, _, after = document.partition(f" The {ordinal} passkey is")
        keys[ordinal] = after.split(".")[0]
        assert before.endswith(".") and len(keys[ordinal].split()) == lessons.PASSKEY
        assert f" What is the {ordinal} passkey? The {ordinal} passkey is{keys[ordinal]}." in asked
        assert 0.03 * first < len(before) < 0.97 * first
    answers = Letters().decode(made.ids[0][made.answers[0]])
    assert sorted(answers.split()) == sorted(" ".join(keys.values()).split())
    assert bool(made.labels[0, first:].all())
    other = lessons.passkeys(Reader, Letters(), TEXT, (5000, 5000), n=3, seed=4)(8)
    assert not torch.equal(other.ids[:, :3000], made.ids[:, :3000])


@pytest.mark.parametrize("lengths", [(1000, 1000), (1000, 2000)])
def test_lengths_lie_between_the_shortest_and_the_longest(lengths: tuple[int, int]) -> None:
    from random import Random

    found = {lessons.length(Random(i), lengths) for i in range(300)}
    assert min(found) == lengths[0] and max(found) == lengths[1]
    assert len(found) == (1 if lengths[0] == lengths[1] else lessons.POINTS)


def test_what_cannot_be_taught_is_refused() -> None:
    with pytest.raises(InputError, match="holds 1 to 10 passkeys, got 11"):
        lessons.passkeys(Reader, Letters(), TEXT, (500, 900), n=11)
    with pytest.raises(InputError, match=r"the text has \d+ tokens, fewer than a lesson of 99000"):
        lessons.passkeys(Reader, Letters(), TEXT, (500, 99000))
    with pytest.raises(InputError, match=r"a lesson has \d+ tokens, more than the 9000 that the model can"):
        lessons.passkeys(Reader, Letters(), TEXT, (8900, 8900))(0)


def test_a_model_that_does_not_retrieve_is_refused() -> None:
    model, tokenizer = keyvalise.reference()
    page = lessons.pages(model, tokenizer, duo.TASKS, (192, 192), n=4)
    assert lessons.must_retrieve(model, page) > 0.9
    dull = copy.deepcopy(model)
    with torch.no_grad():
        dull.model.layers[1].self_attn.o_proj.weight.zero_()
    with pytest.raises(InputError, match="of the answers' tokens rightly: it retrieves nothing that gates"):
        lessons.must_retrieve(dull, page)
    # A needle's two numbers are guessed once in a while at most.
    assert 0 <= lessons.right(dull, page(0)) < 0.3
