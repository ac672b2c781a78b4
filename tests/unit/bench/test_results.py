"""The file of results: whole lines, read back as they were, torn ones forgotten."""

from __future__ import annotations

import pytest

from keyvalise.bench.results import Results, write_whole
from keyvalise.types.errors import InputError
from tests.unit.bench import fakes

ONE = fakes.result("full", "1011")
TWO = fakes.result("snapkv @ 25%", "1001", error=None)


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    first = Results(path)
    for result in (ONE, TWO):
        first.add(result)
    again = Results(path)
    assert again.known == {ONE.key: ONE, TWO.key: TWO}
    assert again.of([TWO.key, "unknown", ONE.key]) == [TWO, ONE]


def test_a_torn_line_is_forgotten_and_overwritten(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path).add(ONE)
    with path.open("a") as file:
        file.write(TWO.to_json()[:40])
    opened = Results(path)
    assert list(opened.known) == [ONE.key]
    opened.add(TWO)
    assert list(Results(path).known) == [ONE.key, TWO.key]


def test_opening_changes_nothing(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path)
    assert list(tmp_path.iterdir()) == []
    Results(path).add(ONE)
    Results(path, is_fresh=True)
    assert list(Results(path).known) == [ONE.key]


def test_fresh_begins_anew(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path).add(ONE)
    Results(path, is_fresh=True).add(TWO)
    assert list(Results(path).known) == [TWO.key]


@pytest.mark.parametrize("line", ["something else\n", "{}\n", '{"key": 1, "document": 2}\n', "[1]\n"])
def test_other_files_are_left_alone(tmp_path, line):
    path = tmp_path / "results.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=r"results.jsonl:1 is not a result of keyvalise bench"):
        Results(path)
    assert path.read_text() == line


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write results to"):
        Results(tmp_path / "file" / "results.jsonl")


def test_writing_whole_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "sub" / "report.html"
    write_whole(path, "old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="cannot write"):
        write_whole(path / "below", "x")
