"""calibrate: trained once, kept where recipes look, named by content, and refused in one line."""

from __future__ import annotations

import pytest

from keyvalise.host import assets
from keyvalise.train import texts

SMALL = ("--tokens", 300)
PQ = "pq(parts=4, codewords=16, codebook={})"


@pytest.fixture
def home(tmp_path, monkeypatch, reference):
    """An empty folder of the user's own and nothing shipped; the folder for the embedded model in it."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    monkeypatch.setattr(assets, "SHIPPED", tmp_path / "nothing")
    monkeypatch.setattr(texts, "LENGTHS", (150, 200))
    return tmp_path / "assets" / assets.fingerprint(reference[0])


def test_it_trains_keeps_and_says_how_to_name_it(run, home, tmp_path):
    document = tmp_path / "notes.txt"
    document.write_text("the code of mira tolan is 47 12 . " * 40)
    asked = ("inspect-cache", "--document", document, "--recipe")
    refused = run(*asked, PQ.format("mine"))
    assert refused.code == 2 and "train one with `keyvalise calibrate MODEL RECIPE`" in refused.err
    made = run("calibrate", "reference", PQ.format("mine"), *SMALL, "--quiet")
    assert made.code == 0 and made.err == ""
    name = made.out.strip()
    assert name.startswith("mine@") and (home / "mine.safetensors").is_file()
    for book in ("mine", f"'{name}'"):
        held = run(*asked, PQ.format(book), "--json")
        assert held.code == 0, held.err
    wrong = run(*asked, PQ.format("'mine@000000'"))
    assert wrong.code == 2 and "the recipe names 'mine@000000'; name what there is" in wrong.err


def test_what_is_there_is_left_alone_until_it_is_wanted_anew(run, home):
    words = ("calibrate", "reference", "svd(basis=mine) > fp16", *SMALL, "--json")
    first = run(*words).json
    (made,) = first["assets"]
    assert first["recipe"] == "svd(basis=mine) > fp16" and made["new"]
    assert made["split"] == "train" and made["for"] == {"part": "svd", "side": "post"}
    assert made["bytes"] == (home / "mine.safetensors").stat().st_size and len(made["sha256"]) == 64
    (again,) = run(*words).json["assets"]
    assert not again["new"] and again["sha256"] == made["sha256"]
    (anew,) = run(*words, "--fresh", "--seed", 1).json["assets"]
    assert anew["new"] and anew["sha256"] != made["sha256"] and anew["seed"] == 1


def test_a_chain_is_trained_from_its_beginning(run, home):
    found = run("calibrate", "reference", "svd > pq(parts=2, codewords=16, side=post)", *SMALL)
    assert found.code == 0 and found.out.count("trained: ") == 2
    names = [line.partition("@")[0] for line in found.out.splitlines() if "@" in line]
    assert names == ["svd", "pq"]


def test_a_users_own_text_and_another_name(run, home, tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("a quiet town keeps many stories . " * 40)
    words = ("calibrate", "reference", "svd > fp16", "--text", text, "--out", "other", "--json", *SMALL)
    (made,) = run(*words).json["assets"]
    assert made["name"] == "other" and made["split"] == "user" and made["texts"] == ["book.txt"]
    assert [path.name for path in home.glob("*.safetensors")] == ["other.safetensors"]


def test_recipes_without_training_say_so(run, home):
    found = run("calibrate", "reference", "snapkv > int4 @ 20%")
    assert found.code == 0 and found.out.strip().endswith("needs no training")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reference", "duo"), "python -m keyvalise.train.duo"),
        (("reference", "headkv"), "keyvalise profile"),
        (("reference", "nothing"), "unknown recipe or part 'nothing'"),
        (("reference", "int4", "--out", "x"), "--out names one asset, and 'int4' needs 0"),
        (("reference", "svd > fp16", "--out", "a b"), "assets are kept under plain words, and 'a b' is none"),
        (("reference", "svd > fp16", "--text", "nowhere"), "cannot read the document nowhere"),
        (("reference", "pq", "--tokens", 5), "--tokens"),
        (("reference", "hadamard > lean > fp16"), "and hadamard stands before it; put hadamard behind it"),
        (("reference", "pq(codewords=4096)", *SMALL), "for 4096 codewords; ask for more --tokens"),
        (("nowhere", "pq"), "cannot load"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, home, words, said):
    found = run("calibrate", *words)
    assert found.code == 2 and said in found.err and found.err.count("\n") == 1 and found.out == ""
