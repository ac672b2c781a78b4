"""generate and inspect-cache: documents in, answers and bytes out."""

from __future__ import annotations

import io
import json
import sys

import pytest

from keyvalise.reference import tasks

TASK = tasks.generate("needle", tokens=256, seed=11, kind="dense")
ASKED = TASK.questions[:3]


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(TASK.document)
    return path


def questions(some=ASKED):
    return [word for question in some for word in ("--question", question)]


def test_answers_are_those_of_the_library(run, document, reference):
    from keyvalise.host.answer import answer

    found = run("generate", "--document", document, *questions(), "--recipe", "snapkv @ 50%", "--json")
    assert found.code == 0 and found.err == ""
    data = found.json
    import torch

    expected = answer(*reference, TASK.document, ASKED, "snapkv @ 50%", dtype=torch.float16)
    assert [one["answer"] for one in data["answers"]] == expected
    assert [one["question"] for one in data["answers"]] == list(ASKED)
    assert data["recipe"] == "snapkv @ 50%" and data["dtype"] == "float16"
    assert data["share"] <= 0.5 and data["nbytes"] > 0


def test_questions_do_not_know_each_other(run, document):
    arguments = ("generate", "--document", document, "--recipe", "streaming @ 60%", "--json")
    together = run(*arguments, *questions()).json["answers"]
    backwards = run(*arguments, *questions(ASKED[::-1])).json["answers"]
    assert together == backwards[::-1]


def test_in_a_conversation_the_answers_stay(run, document, monkeypatch):
    from keyvalise.cli.session import Session

    sessions = []
    init = Session.__init__
    monkeypatch.setattr(
        Session, "__init__", lambda self, *args: (sessions.append(self), init(self, *args))[1]
    )
    found = run("generate", "--document", document, *questions(), "--chat", "--json")
    assert found.code == 0 and len(found.json["answers"]) == 3
    (session,) = sessions
    spoken = session.tokenizer.decode(session.context[0])
    position = 0
    for one in found.json["answers"]:
        position = spoken.index(f"{one['question']} {one['answer']}".strip(), position)
    assert session.cache.seen > found.json["seen"] + len(ASKED[0].split())


def test_documents_are_read_in_order_and_from_standard_input(run, tmp_path, document, monkeypatch):
    other = tmp_path / "more.txt"
    other.write_text("mira tolan stays")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TASK.document.encode())))
    piped = run("generate", "--document", "-", *questions(), "--json").json
    plain = run("generate", "--document", document, *questions(), "--json").json
    assert piped["answers"] == plain["answers"] and piped["seen"] == plain["seen"]
    both = run("generate", "--document", document, "--document", other, *questions(), "--json").json
    assert both["seen"] == plain["seen"] + 3


def test_words_for_people_and_for_scripts(run, document):
    talk = run("generate", "--document", document, *questions(ASKED[:1]), "--recipe", "keydiff @ 50%")
    assert talk.out.startswith(f"> {ASKED[0]}\n")
    assert "keydiff @ 50%: " in talk.out and "of a 16-bit full cache of" in talk.out and talk.err == ""
    terse = run(
        "generate", "--document", document, *questions(ASKED[:1]), "--recipe", "keydiff @ 50%", "--quiet"
    )
    assert terse.out.count("\n") == 1 and terse.out.strip() == talk.out.splitlines()[1]


def test_a_prefill_in_chunks_holds_the_same_budget(run, document):
    arguments = ("inspect-cache", "--document", document, "--recipe", "knorm @ 25%", "--json")
    whole, parts = run(*arguments).json, run(*arguments, "--prefill-chunk", 50).json
    assert parts["nbytes"] == whole["nbytes"] and parts["seen"] == whole["seen"]


def test_inspecting_adds_up(run, document):
    data = run("inspect-cache", "--document", document, "--recipe", "adakv > int4 @ 30%", "--json").json
    assert data["nbytes"] == sum(line["n_bytes"] for line in data["ledger"]["lines"])
    assert data["share"] <= 0.3
    assert len(data["kept"]) == 16 and all(one["kept"] > 0 for one in data["kept"])
    assert {one["last"] for one in data["kept"]} == {data["seen"] - 1}


def test_inspecting_for_people(run, document):
    found = run("inspect-cache", "--document", document, "--recipe", "streaming @ 25%")
    lines = found.out.splitlines()
    assert lines[0].strip() == "bytes" and lines[1].split()[:2] == ["layer", "segment"]
    assert any(line.split()[:1] == ["all"] for line in lines)
    assert any(line.startswith("layer  head 0") for line in lines)
    assert "streaming @ 25%: " in lines[-1]
    terse = run("inspect-cache", "--document", document, "--recipe", "streaming @ 25%", "--quiet")
    assert terse.out.splitlines() == lines[-1:]


def test_dtype_decides_the_bytes(run, document):
    sizes = {
        name: run("inspect-cache", "--document", document, "--dtype", name, "--json").json["nbytes"]
        for name in ("auto", "bfloat16", "float32")
    }
    assert sizes["auto"] == sizes["bfloat16"]
    assert sizes["float32"] > 1.9 * sizes["auto"]


def test_any_local_model_can_be_named(run, tmp_path, reference):
    folder = tmp_path / "model"
    for part in reference:
        part.save_pretrained(folder)
    path = tmp_path / "notes.txt"
    path.write_text(TASK.document)
    there = run("generate", "--model", folder, "--document", path, *questions(), "--json").json
    here = run("generate", "--document", path, *questions(), "--json").json
    assert there["answers"] == here["answers"]
    json.dumps(there)
