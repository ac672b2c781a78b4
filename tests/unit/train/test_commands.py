"""The trainings as commands: they write assets that recipes find, and say mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import keyvalise
from keyvalise.host import assets
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train import calibrate, duo, options, rlkv, run

DUO = ("--steps", "2", "--lengths", "128", "160", "--sinks", "4", "--recent", "16", "--threads", "1")
RLKV = (*DUO, "--problems", "4", "--prompts", "2", "--parts", "1", "--answers", "2", "--most", "10")
CALIBRATE = ("--steps", "2", "--lengths", "128", "160", "--threads", "1")
COMMANDS = {
    "duo": (duo, DUO, "heads"),
    "rlkv": (rlkv, RLKV, "heads"),
    "rlkv_surrogate": (rlkv, (*RLKV, "--surrogate"), "heads"),
    "eviction_error": (calibrate, ("eviction_error", *CALIBRATE), "layers"),
    "prefix": (calibrate, ("prefix", *CALIBRATE), "dropped"),
}
RECIPES = {"eviction_error": "compresskv", "prefix": "prefixkv"}


def call(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    module.main()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_product_is_found_by_its_recipe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    module, arguments, kind = COMMANDS[name]
    call(module, monkeypatch, *arguments, "--save", "--seed", "3")
    said = capsys.readouterr()
    shown = json.loads(said.out)
    model, _ = keyvalise.reference()
    path = assets.find(name, model)
    assert path == Path(shown["file"]) and tmp_path in path.parents
    made = asset.read(path)
    assert made.kind == kind and made.header["model"] == assets.fingerprint(model)
    assert made.header["seed"] == 3 and made.header["steps"] == 2 and made.header["lengths"] == [128, 160]
    assert made.header["split"] == "train" and ("lambda" in made.header) == (kind == "heads")
    assert not (path.parent / "training" / path.name).exists()
    recipe = RECIPES.get(name, f"{name}(sinks=2, recent=5)")
    keyvalise.KVCache(model, f"{recipe} @ 50%")


def test_without_a_place_the_product_is_shown_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    state = tmp_path / "state"
    call(duo, monkeypatch, *DUO, "--state", str(state))
    first = json.loads(capsys.readouterr().out)
    assert first["file"] is None and len(first["heads"]) == 4 and state.is_file()
    # The same command with a place goes on from the state, which has nothing left to do.
    monkeypatch.setattr(duo, "distil", None)
    call(duo, monkeypatch, *DUO, "--state", str(state), "--out", str(tmp_path / "out"))
    second = json.loads(capsys.readouterr().out)
    assert second["heads"] == first["heads"] and not state.exists()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["duo.safetensors"]


def test_mistakes_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    state, ranks = tmp_path / "state", tmp_path / "ranks.safetensors"
    state.write_bytes(b"\0" * 50)
    asset.write(ranks, Asset("layers", {}, {}))
    no_text = str(tmp_path / "none.txt")
    for module, arguments, line in (
        (duo, ("--model", str(tmp_path / "no")), "cannot load"),
        (duo, ("--device", "abacus"), "cannot use the device 'abacus'"),
        (duo, ("--lengths", "9", "3"), "two numbers, the shorter first"),
        (duo, ("--recent", "0"), "a stream needs sinks >= 0 and recent >= 1, got 4 and 0"),
        (duo, ("--state", str(state)), "begin anew with --fresh"),
        (duo, ("--data", "passkeys", "--text", no_text), "none.txt: No such file"),
        (calibrate, ("prefix", "--share", "1.5"), "--share lies between 0 and 1"),
        (calibrate, ("eviction_error", "--ranks", "none"), "no asset 'none'"),
        (
            calibrate,
            ("eviction_error", "--ranks", str(ranks)),
            "kind layers, a part asks for heads",
        ),
    ):
        own = CALIBRATE if module is calibrate else DUO
        with pytest.raises(SystemExit) as stopped:
            call(module, monkeypatch, *own, *arguments)
        said = capsys.readouterr()
        assert stopped.value.code == 2 and not said.out
        last = said.err.splitlines()[-1]
        assert last.startswith("keyvalise: ") and line in last, last


def test_fresh_forgets_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.write_bytes(b"\0" * 50)
    call(duo, monkeypatch, *DUO, "--state", str(state), "--fresh", "--out", str(tmp_path))
    assert json.loads(capsys.readouterr().out)["steps"] == 2 and not state.exists()


def test_a_curve_is_the_means_of_stretches() -> None:
    trail = [{"loss": float(i)} for i in range(23)]
    assert options.curve(trail, 4) == {"loss": [2.0, 7.5, 13.5, 19.5]}
    assert options.curve(trail[:2]) == {"loss": [0.0, 1.0]}


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, options.said():
        raise KeyboardInterrupt
    assert stopped.value.code == 130 and "the same command goes on" in capsys.readouterr().err


def test_no_bar_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    run.Run("quiet", 3, {}).go(lambda step: {}, {})
    assert capsys.readouterr().err == ""


def test_help_needs_no_model() -> None:
    command = [sys.executable, "-m", "keyvalise.train.rlkv", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "--surrogate" in done.stdout and "exact match" in done.stdout


@pytest.mark.parametrize("step", [0, 40, 100, 199])
def test_the_rate_climbs_and_falls(step: int) -> None:
    want = min(1.0, max(step / 40, 0.1), max((200 - step) / 40, 0.1))
    assert run.slope(step, 200) == want
    assert run.slope(0, 200) == run.slope(200, 200) == 0.1 and run.slope(100, 200) == 1.0
