"""Every generated text has one reading; any other text is spelled."""

import pytest

from keyvalise.reference import tasks
from keyvalise.reference.tasks import words
from keyvalise.reference.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("name", tasks.names())
def test_tokens_are_words_and_decode_to_the_text(tokenizer, name):
    task = tasks.generate(name, tokens=512, seed=2, kind="dense")
    ids = tokenizer(task.document).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[1:] == [words.vocabulary()[word] for word in task.document.split()]
    assert tokenizer.decode(ids, skip_special_tokens=True) == task.document


@pytest.mark.parametrize("name", tasks.names())
def test_a_question_can_be_appended_as_tokens_or_as_text(tokenizer, name):
    task = tasks.generate(name, tokens=512, seed=2, kind="dense")
    document = tokenizer(task.document).input_ids
    for question, answer in zip(task.questions, task.answers, strict=True):
        asked = tokenizer(question, add_special_tokens=False).input_ids
        assert document + asked == tokenizer(f"{task.document} {question}").input_ids
        answered = tokenizer(answer, add_special_tokens=False).input_ids
        assert (
            tokenizer.decode([*answered, tokenizer.eos_token_id], skip_special_tokens=True).strip() == answer
        )


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("Mira Tolan  carried 4712 ropes.", "mira tolan carried 4712 ropes ."),
        ("Café (1999)?", "cafe ( 1999 ) ?"),
        ("zebra-crossing", "zebra - crossing"),
        ("", ""),
    ],
)
def test_other_text_is_spelled(tokenizer, text, decoded):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == decoded


def test_what_cannot_be_spelled_is_unknown_and_nothing_crashes(tokenizer):
    assert tokenizer.unk_token_id in tokenizer("漢字").input_ids


def test_ids_are_dense_and_special_tokens_come_first(tokenizer):
    known = words.vocabulary()
    assert sorted(known.values()) == list(range(len(known))) == list(range(len(tokenizer)))
    assert [known[token] for token in words.SPECIAL] == [0, 1, 2, 3]
    assert tokenizer.eos_token == "</s>"
