"""Bad input: one line on stderr, an exit code, nothing on stdout, nothing half-written."""

from __future__ import annotations

import pytest

GENERATE = ("generate", "--document", "{doc}", "--question", "question : x is")
BENCH = ("bench", "--out", "{dir}/out", "--recipes")

WRONG = {
    "no such command": (("frob",), "No such command 'frob'"),
    "nearly a command": (("dmo",), "demo"),
    "no such option": (("demo", "--frob"), "No such option: --frob"),
    "missing argument": (("cite",), "Missing argument 'RECIPE'"),
    "no question": (GENERATE[:3], "no question given; add --question TEXT"),
    "empty question": ((*GENERATE[:3], "--question", " "), "a question is empty"),
    "no document": (("generate", "--question", "x"), "no document given; add --document FILE"),
    "missing document": (("generate", "--document", "{dir}/none", "--question", "x"), "No such file"),
    "document is a folder": (
        ("inspect-cache", "--document", "{dir}"),
        "cannot read the document {dir}: Is a dir",
    ),
    "empty document": (("inspect-cache", "--document", "{dir}/empty"), "the document {dir}/empty is empty"),
    "document is no text": (("inspect-cache", "--document", "{dir}/bytes"), "is not UTF-8 text (byte 1)"),
    "stdin twice": (("inspect-cache", "--document", "-", "--document", "-"), "give --document - once"),
    "document too long": (
        ("inspect-cache", "--document", "{dir}/long"),
        "more than the 8192 that the model can",
    ),
    "answer too long": (
        (*GENERATE, "--max-new-tokens", "9000"),
        "more than the 8192 that the model can read",
    ),
    "unknown recipe": ((*GENERATE, "--recipe", "snapvk @ 10%"), "nearest: snapkv"),
    "unknown recipe to cite": (("cite", "snapvk"), "nearest: snapkv"),
    "unknown recipe to show": (("recipes", "show", "snapvk"), "nearest: snapkv"),
    "unknown argument": ((*GENERATE, "--recipe", "snapkv(windw=3)"), "nearest: window"),
    "bad budget": ((*GENERATE, "--recipe", "snapkv @ much"), "expected a budget: 10%"),
    "no budget": ((*GENERATE, "--recipe", "snapkv @ 0%"), "must be positive, got 0%"),
    "impossible budget": ((*GENERATE, "--recipe", "int8 @ 10%"), "int8 needs at least"),
    "unknown dtype": ((*GENERATE, "--dtype", "int3"), "unknown dtype 'int3'; write auto, float16"),
    "unknown device": ((*GENERATE, "--device", "tpux"), "cannot use the device 'tpux'"),
    "unknown model": ((*GENERATE, "--model", "{dir}"), "cannot load the model '{dir}'"),
    "bad chunk": ((*GENERATE, "--prefill-chunk", "0"), "prefill_chunk must be at least 1, got 0"),
    "unknown task": ((*BENCH, "knorm", "--tasks", "neddle"), "unknown task 'neddle'; nearest: needle"),
    "unknown kind": ((*BENCH, "knorm", "--kinds", "spare"), "nearest: sparse"),
    "short document": ((*BENCH, "knorm", "--tokens", "7"), "at least 128 tokens, got 7"),
    "no number": ((*BENCH, "knorm", "--tokens", "ten"), "--tokens takes whole numbers parted by commas"),
    "no budgets": ((*BENCH, "knorm", "--budgets", "many"), "cannot read the budget 'many'"),
    "no recipes": ((*BENCH, ","), "cannot read the list ','"),
    "folder is a file": (("bench", "--recipes", "knorm", "--out", "{dir}/empty"), "cannot write results to"),
    "demo into a file": (("demo", "--quick", "--out", "{dir}/empty"), "cannot write results to"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "doc").write_text("mira tolan stays here")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"a\xff\xfe")
    (tmp_path / "long").write_text("mira tolan " * 5000)
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_one_line_says_what_is_wrong(run, folder, case):
    words, message = WRONG[case]
    before = sorted(folder.rglob("*"))
    found = run(*(word.format(doc=folder / "doc", dir=folder) for word in words))
    assert found.code == 2
    assert found.out == ""
    assert message.format(dir=folder) in found.err
    assert found.err.startswith("keyvalise: ") and found.err.count("\n") == 1 and found.err.endswith("\n")
    assert [path for path in sorted(folder.rglob("*")) if path not in before and path.is_file()] == []


def test_an_unexpected_error_is_a_line_too(run, folder, monkeypatch):
    from keyvalise.host import answer

    def breaks(*args, **kwargs):
        raise ArithmeticError("a thing nobody thought of")

    monkeypatch.setattr(answer, "read", breaks)
    words = [word.format(doc=folder / "doc") for word in GENERATE]
    found = run(*words)
    assert found.code == 1 and found.err.count("\n") == 1
    assert "ArithmeticError: a thing nobody thought of (set KEYVALISE_DEBUG=1 to see where)" in found.err
    monkeypatch.setenv("KEYVALISE_DEBUG", "1")
    with pytest.raises(ArithmeticError):
        run(*words)


def test_a_model_that_cannot_be_served_is_code_1(run, folder, monkeypatch):
    from keyvalise.host import answer
    from keyvalise.types.errors import UnsupportedModel

    def refuses(*args, **kwargs):
        raise UnsupportedModel("this model takes no handles")

    monkeypatch.setattr(answer, "read", refuses)
    found = run(*(word.format(doc=folder / "doc") for word in GENERATE))
    assert (found.code, found.err) == (1, "keyvalise: this model takes no handles\n")


COMMANDS = ("demo", "generate", "bench", "recipes", "recipes list", "recipes show", "cite", "inspect-cache")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_the_common_options(run, command):
    found = run(*command.split(), "--help")
    assert found.code == 0 and found.err == ""
    assert f"Example: keyvalise {command.split()[0]}" in found.out
    for option in ("--json", "--quiet"):
        assert option in found.out


def test_the_top(run):
    helped = run("--help")
    assert all(command.split()[0] in helped.out for command in COMMANDS)
    assert run("--version").out.startswith("keyvalise 0.")
    assert run().code in (0, 2)
