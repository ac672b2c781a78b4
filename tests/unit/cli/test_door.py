"""Errors become one line and an exit code."""

from __future__ import annotations

import pytest

from keyvalise.cli import door
from keyvalise.types import errors


class Usage(Exception):
    exit_code = 2

    def format_message(self):
        return "No such option: --x."


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (errors.InputError("bad file"), "bad file", 2),
        (errors.UnknownName("recipe", "x", ["y"]), "unknown recipe 'x'; nearest: y", 2),
        (errors.ImpossibleBudget("too little"), "too little", 2),
        (errors.UnsupportedModel("no seam"), "no seam", 1),
        (errors.TornForward("stopped"), "stopped", 1),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device", 1),
        (FileNotFoundError("weights are missing"), "weights are missing", 1),
        (MemoryError(), "MemoryError", 1),
        (Usage(), "No such option: --x; see keyvalise --help", 2),
        (KeyError("k"), "KeyError: 'k' (set KEYVALISE_DEBUG=1 to see where)", 1),
    ],
)
def test_what_is_said(error, line, code):
    assert door.judged(error) == (line, code)


def breaking(monkeypatch, error):
    def call(arguments):
        raise error

    monkeypatch.setattr(door, "_call", call)
    return door.run([])


def test_lines_are_joined(monkeypatch, capsys):
    assert breaking(monkeypatch, errors.InputError("one\n  two")) == 2
    assert capsys.readouterr() == ("", "keyvalise: one two\n")


def test_an_interruption_is_130(monkeypatch, capsys):
    assert breaking(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "keyvalise: interrupted\n"


def test_main_leaves_with_the_code(monkeypatch):
    from keyvalise import cli

    monkeypatch.setattr(door, "_call", lambda arguments: 7 if arguments == ["a"] else 0)
    with pytest.raises(SystemExit) as left:
        cli.main(["a"])
    assert left.value.code == 7
