"""demo and bench: what is measured, kept, resumed and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyvalise.bench import measure
from keyvalise.bench.results import Results
from keyvalise.cli import demo

SMALL = (
    "bench",
    "--tasks",
    "needle",
    "--kinds",
    "dense",
    "--tokens",
    "200",
    "--seeds",
    "1,2",
    "--questions",
    "2",
)


def small(
    folder: Path, recipes: str = "snapkv,int8", budgets: str = "60%", *more: object
) -> tuple[object, ...]:
    return (*SMALL, "--recipes", recipes, "--budgets", budgets, "--out", folder, *more)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_the_demo_measures_and_reports(run, tmp_path):
    found = run("demo", "--quick", "--json", "--out", tmp_path / "deep")
    assert (found.code, found.err) == (0, "")
    data = found.json
    rows = {row["recipe"]: row for row in data["rows"]}
    assert len(rows) == 7 and data["complete"]
    assert rows["full"]["error"] == 0 and rows["full"]["loss"] in (0, None)
    for recipe, row in rows.items():
        share = 1.13 if recipe == "full" else float(recipe.split("@")[1].strip(" %")) / 100
        assert 0 < row["share"] <= share
        assert row["n_all"] == 6 and 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert min(row["prefill_tokens_per_s"], row["decode_tokens_per_s"], row["peak_rss_bytes"]) > 0
    assert rows["streaming @ 10%"]["error"] > rows["streaming @ 25%"]["error"] > 0
    page = Path(data["report"]).read_text()
    assert page.startswith("<!doctype html>") and "snapkv &gt; int4 @ 25%" in page
    assert len(lines(tmp_path / "deep")) == 7


def test_the_demo_for_people_ends_with_one_line(run, tmp_path):
    talk = run("demo", "--quick", "--out", tmp_path, "--tokens", 200)
    assert talk.code == 0 and talk.err == "", "no progress bar into a pipe"
    assert f"report: {tmp_path}/report.html" in talk.out
    assert talk.out.splitlines()[-1].startswith("fewest bytes within a loss of: 1% ")
    assert "attn error" in talk.out and "peak RSS" in talk.out
    terse = run("demo", "--quick", "--quiet", "--out", tmp_path, "--tokens", 200)
    assert terse.out.count("\n") == 1 and terse.err == ""


def test_the_demo_asks_enough_of_what_is_mastered(monkeypatch):
    table = [
        {"task": task, "kind": kind, "tokens": tokens, "accuracy": accuracy}
        for task, kind, tokens, accuracy in [
            ("needle", "sparse", 4096, 0.97), ("records", "sparse", 4096, 0.91),
            ("copy", "sparse", 4096, 0.89), ("needle", "dense", 4096, 0.95),
            ("records", "dense", 1024, 0.99), ("multikey", "dense", 4096, 0.5),
        ]
    ]  # fmt: skip
    monkeypatch.setattr("keyvalise.bench.heldout.rows", lambda: table)
    assert demo.mastered(4096, "sparse") == ["needle", "records"]
    assert demo.mastered(2000, "dense") == ["needle"] and demo.mastered(9000, "dense") == []
    documents = demo.choose(4096, 24)
    assert sum(len(document.generate().questions) for document in documents) >= 24
    allowed = {("needle", "sparse"), ("records", "sparse"), ("needle", "dense")}
    assert {(document.task, document.kind) for document in documents} <= allowed
    assert {document.kind for document in documents} == {"sparse", "dense"}


def test_the_demo_without_a_table_asks_needles(monkeypatch):
    monkeypatch.setattr("keyvalise.bench.heldout.rows", list)
    assert {(d.task, d.kind) for d in demo.choose(1024, 6)} == {("needle", "sparse")}


def test_the_demo_compares_at_least_eight_recipes():
    from keyvalise.bench import plan

    texts = plan.texts([*demo.RECIPES, *demo.CODED], demo.BUDGETS)
    for budget in ("25%", "10%"):
        assert sum(text.endswith(budget) for text in texts) >= 8


def test_what_is_known_is_not_measured_again(run, tmp_path, monkeypatch):
    first = run(*small(tmp_path, "snapkv"), "--json").json
    assert len(lines(tmp_path)) == 4
    measured = []
    document = measure.Bench.document

    def counted(self, place, texts, plan):
        measured.append((place.seed, tuple(texts)))
        return document(self, place, texts, plan)

    monkeypatch.setattr(measure.Bench, "document", counted)
    assert run(*small(tmp_path, "snapkv"), "--json").json["rows"] == first["rows"]
    assert measured == []
    more = run(*small(tmp_path, "snapkv,knorm"), "--json").json
    assert measured == [(1, ("knorm @ 60%",)), (2, ("knorm @ 60%",))]
    assert [row["recipe"] for row in more["rows"]] == ["full", "snapkv @ 60%", "knorm @ 60%"]
    assert len(lines(tmp_path)) == 6


def test_a_resumed_run_ends_like_a_whole_one(run, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    run(*small(whole))
    torn.mkdir()
    text = (whole / "results.jsonl").read_text()
    (torn / "results.jsonl").write_text(text[: len(text) // 2])
    run(*small(torn))
    for a, b in zip(lines(whole), lines(torn), strict=True):
        for field in ("key", "recipe", "held_bytes", "answers", "right", "kept", "fields"):
            assert a[field] == b[field]
        assert a["error"] == pytest.approx(b["error"], rel=1e-4)


def test_recipes_that_are_impossible_are_told_and_the_others_measured(run, tmp_path):
    data = run(*small(tmp_path, "int8,knorm", "20%"), "--json").json
    assert "int8 needs at least" in data["refused"]["int8 @ 20%"]
    assert [row["recipe"] for row in data["rows"]] == ["full", "knorm @ 20%"]
    again = run(*small(tmp_path, "int8,knorm", "20%"))
    assert "not possible: int8 @ 20%: int8 needs at least" in again.out and len(lines(tmp_path)) == 6


def test_the_kept_set_does_not_depend_on_the_question(run, tmp_path, monkeypatch):
    """The same document with other questions: what is held is the same, unless the question may be seen."""
    from keyvalise.bench.plan import Document

    generate = Document.generate

    def other(self):
        whole = generate(type(self)(self.task, self.kind, self.tokens, self.seed, 99))
        return type(whole)(whole.name, whole.kind, whole.document, whole.questions[5:6], whole.answers[5:6])

    def held(folder):
        return [(one["recipe"], one["kept"], one["entries"], one["held_bytes"]) for one in lines(folder)]

    alone = small(tmp_path / "alone", "snapkv(window=8),h2o,expected,keydiff", "30%", "--questions", 1)
    aware = small(tmp_path / "aware", "snapkv(window=8)", "30%", "--questions", 1, "--query-aware")
    assert run(*alone, "--seeds", 1).code == run(*aware, "--seeds", 1).code == 0
    first = {
        name: (held(tmp_path / name), lines(tmp_path / name)[0]["answers"]) for name in ("alone", "aware")
    }
    for name in first:
        (tmp_path / name / "results.jsonl").unlink()
    monkeypatch.setattr(Document, "generate", other)
    assert run(*alone, "--seeds", 1).code == run(*aware, "--seeds", 1).code == 0
    assert held(tmp_path / "alone") == first["alone"][0]
    assert lines(tmp_path / "alone")[0]["answers"] != first["alone"][1]
    assert held(tmp_path / "aware")[1][1] != first["aware"][0][1][1]
    assert "Query-aware" in (tmp_path / "aware" / "report.html").read_text()
    assert "Query-aware" not in (tmp_path / "alone" / "report.html").read_text()


def test_a_chunked_prefill_is_measured_too(run, tmp_path):
    data = run(*small(tmp_path, "knorm", "60%", "--prefill-chunk", 50), "--json").json
    assert data["settings"]["prefill_chunk"] == 50 and len(data["rows"]) == 2


BENCH = "import sys; from keyvalise.cli import main; main()"


def test_ctrl_c_keeps_what_there_is(tmp_path):
    recipes = "snapkv,knorm,h2o,tova,keydiff,expected,streaming,adakv"
    words = [*SMALL, "--documents", "9", "--recipes", recipes, "--budgets", "60%,50%,40%", "--out", tmp_path]
    words[words.index("--seeds") + 1] = ",".join(map(str, range(8)))
    process = subprocess.Popen(
        [sys.executable, "-c", BENCH, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background lets their children ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    file, deadline = tmp_path / "results.jsonl", time.monotonic() + 200
    while not (file.exists() and file.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "interrupted" in err and err.count("\n") == 1 and "Traceback" not in err
    assert len(Results(file).known) >= 3
    assert (tmp_path / "report.html").read_text().rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert out


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -c {BENCH!r} recipes | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("full") and done.stderr == ""
