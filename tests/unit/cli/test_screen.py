"""What is printed where, for people, for scripts and for the quiet."""

from __future__ import annotations

import json

import pytest

from keyvalise.cli.screen import Screen


def say_all(screen):
    screen.result("result")
    screen.remark("remark [bold]")
    screen.table(["name", "n"], [["row", "7"]], title="title")
    screen.warn("warning")
    if screen.json:
        screen.document({"ü": [1, 2]})
    with screen.progress(3, "work") as bar:
        bar.advance(bar.task_ids[0])


def test_for_people_in_a_pipe(capsys):
    say_all(Screen())
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == ["result", "remark [bold]"]
    assert [line.split() for line in out.splitlines()[2:]] == [["title"], ["name", "n"], ["row", "7"]]
    assert err == "keyvalise: warning\n"
    assert "\x1b" not in out + err, "neither colours nor a progress bar go into a pipe"


def test_quiet(capsys):
    say_all(Screen(quiet=True))
    assert capsys.readouterr() == ("result\n", "keyvalise: warning\n")


@pytest.mark.parametrize("quiet", [False, True])
def test_json_is_alone(capsys, quiet):
    say_all(Screen(json=True, quiet=quiet))
    out, err = capsys.readouterr()
    assert json.loads(out) == {"ü": [1, 2]} and err == "keyvalise: warning\n"


def test_a_long_line_stays_one_line(capsys):
    Screen().remark("word " * 100)
    Screen().warn("word " * 100)
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == 1


def test_wide_tables_keep_their_columns_in_a_pipe(capsys):
    Screen().table([f"column {i}" for i in range(10)], [["cell"] * 10])
    assert capsys.readouterr().out.count("cell") == 10
