"""profile: heads measured, kept where recipes look for them, and drawn."""

from __future__ import annotations

import pytest

from keyvalise.host import assets
from keyvalise.inspect.heads import MEASURES

SMALL = ("profile", "--needles", 3, "--tokens", 128)


def test_it_measures_keeps_and_draws(run, reference, tmp_path, monkeypatch):
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    found = run(*SMALL, "--json")
    assert found.code == 0 and found.err == ""
    data = found.json
    assert set(MEASURES) | {"echo", "induction", "razor"} == set(data["scores"])
    assert data["needles"] == 3 and 0 < data["right"] <= 3
    folder = tmp_path / "assets" / assets.fingerprint(reference[0])
    assert {path.stem for path in folder.glob("*.safetensors")} == {*data["scores"], "classes"}
    assert (folder / "heads.html").read_text().count("semantic retrieval") == 1


def test_an_allocator_uses_what_was_measured(run, tmp_path, monkeypatch):
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    monkeypatch.setattr(assets, "SHIPPED", tmp_path / "nothing")
    document = tmp_path / "notes.txt"
    document.write_text("the code of mira tolan is 47 12 . " * 40)
    recipe = ("--recipe", "headkv @ 20%", "--document", document)
    refused = run("inspect-cache", *recipe)
    assert refused.code == 2 and "measure one with `keyvalise profile`" in refused.err
    assert run(*SMALL, "--quiet").code == 0
    kept = run("inspect-cache", *recipe, "--json").json["kept"]
    assert len({one["kept"] for one in kept}) > 1


def test_a_table_for_people(run, tmp_path):
    found = run(*SMALL, "--out", tmp_path)
    assert found.code == 0 and found.out.splitlines()[-1] == str(tmp_path.resolve())
    assert "needles answered; the others do not count" in found.out and "retrieval" in found.out


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--needles", 0), "--needles"), (("--tokens", 5), "--tokens"), (("--model", "nowhere"), "cannot load")],
)
def test_what_is_wrong_is_said(run, words, said):
    found = run("profile", *words)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err


def test_a_folder_that_cannot_be_written(run, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    found = run(*SMALL, "--out", taken)
    assert found.code == 2 and "cannot write the asset" in found.err and taken.read_text() == "a file"
