"""store: ls, rm, gc and stats, on folders and on what is none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyvalise.reference import tasks
from keyvalise.store.tiers import uri
from keyvalise.store.tiers.shelf import Shelf
from tests.unit.store.tiers import goods

ROOT = Path(uri.__file__).parents[3]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A store with two contexts of nobody's and one of Ada's; the one that is meant where none is given."""
    monkeypatch.setenv(uri.VARIABLE, str(tmp_path / "caches"))
    shelf = Shelf(uri.tier(str(tmp_path / "caches")), 10**6, goods.CHUNK)
    for number, tenant in ((1, ""), (2, ""), (3, "ada")):
        goods.put(shelf, goods.context(number), tenant)
        time.sleep(0.01)
    return tmp_path / "caches"


def test_what_is_stored_is_listed(run, folder):
    found = run("store", "ls", "--json")
    assert found.code == 0 and found.err == ""
    rows = found.json
    assert [row["n_tokens"] for row in rows] == [30, 30, 30] and {row["recipe"] for row in rows} == {"full"}
    assert [row["tenant"] for row in rows] == [goods.key(name).tenant for name in ("ada", "", "")]
    table = run("store", "ls").out
    assert "object" in table and "now" in table and rows[0]["object"][:12] in table
    assert run("store", "ls", "--quiet").out.split() == [row["object"] for row in rows]


def test_a_tenant_sees_its_own(run, folder, monkeypatch):
    assert len(run("store", "ls", "--salt", "ada", "--json").json) == 1
    assert len(run("store", "ls", "--salt", "", "--json").json) == 2
    monkeypatch.setenv("KEYVALISE_SALT", "ada")
    assert run("store", "stats", "--json").json["n_objects"] == 1


def test_an_empty_store(run, tmp_path):
    nothing = ("--store", tmp_path / "nothing")
    assert run("store", "ls", *nothing).out.strip().endswith("nothing is stored")
    assert run("store", "ls", *nothing, "--json").json == []
    found = run("store", "stats", *nothing, "--json").json
    assert found["n_objects"] == 0 and found["max_bytes"] > 0 and not (tmp_path / "nothing").exists()


def test_removing(run, folder):
    rows = run("store", "ls", "--json").json
    gone = run("store", "rm", rows[1]["object"][:12], "--json")
    assert gone.json == {"removed": 1, "n_bytes": rows[1]["n_bytes"]}
    assert [row["object"] for row in run("store", "ls", "--json").json] == [rows[i]["object"] for i in (0, 2)]
    assert run("store", "rm", "--all", "--salt", "ada", "--json").json["removed"] == 1
    assert run("store", "rm", "--all").out.splitlines()[0].split() == ["removed", "1"]
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_cleaning(run, folder):
    draft = folder / "drafts" / "1.x"
    draft.write_bytes(b"half")
    os.utime(draft, (0, time.time() - 7200))
    broken = next(folder.rglob("object/*"))
    broken.write_bytes(b"other")
    found = run("store", "gc", "--check", "--json")
    assert found.code == 0 and found.err == ""
    assert (found.json["drafts"], found.json["damaged"], found.json["evicted"]) == (1, 1, 0)
    assert run("store", "gc", "--max-bytes", "4kB", "--grace", 0, "--json").json["evicted"] == 1
    assert len(run("store", "ls", "--json").json) == 1
    assert "evicted      1" in run("store", "gc", "--max-bytes", "0").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ls", "--store", "ftp://x"), "no store is reached by ftp://"),
        (("rm",), "name the objects to remove, or give --all"),
        (("rm", "abcdef12", "--all"), "name the objects to remove, or give --all"),
        (("rm", "abc"), "is too short to name an object"),
        (("rm", "zzzzzzzz"), "no object begins with 'zzzzzzzz'"),
        (("gc", "--max-bytes", "5 parsecs"), "cannot read the size '5 parsecs'; write 5GB"),
        (("gc", "--grace", "-1"), "--grace"),
    ],
)
def test_what_is_wrong_is_said(run, folder, words, said):
    found = run("store", *words)
    assert found.code == 2 and said in found.err and found.err.count("\n") == 1 and found.out == ""


def test_a_server_that_is_not_there(run):
    found = run("store", "stats", "--store", "redis://me:secret@127.0.0.1:1/0")
    assert found.code == 1 and "redis://127.0.0.1:1/0" in found.err and found.err.count("\n") == 1
    assert "secret" not in found.err


LISTING = """
import sys
from keyvalise.cli import main
try:
    main(["store", "ls", "--quiet"])
except SystemExit:
    print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_listing_loads_no_model(folder):
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 4 and done.stdout.splitlines()[-1] == "[]"


def test_a_document_is_read_once(run, tmp_path):
    task = tasks.generate("needle", tokens=256, seed=11)
    (tmp_path / "notes.txt").write_text(task.document)
    words = ("generate", "--document", tmp_path / "notes.txt", "--question", task.questions[0])
    kept = ("--store", tmp_path / "caches", "--recipe", "keydiff > int4 @ 50%", "--json")
    first, second = (run(*words, *kept).json for _ in range(2))
    assert [found["store"]["hits"] for found in (first, second)] == [0, 1]
    assert first["answers"] == second["answers"] and first["nbytes"] == second["nbytes"]
    assert run(*words, *kept, "--salt", "ada").json["store"]["hits"] == 0
    (row, _) = run("store", "ls", "--store", tmp_path / "caches", "--json").json
    assert row["n_tokens"] == first["seen"]
    assert "found in the store" in run(*words, *kept[:-1]).out
    both = run("generate", "--cache", "x.kv", "--question", "who ?", "--store", "caches")
    assert both.code == 2 and "give one of them" in both.err
