"""The wheel is complete: built, installed outside the checkout, it runs the main job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.house.checks.source import ROOT

DEMO = ("demo", "--json", "--quiet", "--quick")
"""The shortest run of the main job; prints one JSON document."""

MUST_HOLD = (
    "keyvalise/py.typed",
    "keyvalise/reference/model/model.safetensors",
    "keyvalise/reference/model/tokenizer.json",
)

pytestmark = pytest.mark.slow


def _run(*command: object, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ROOT,
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        folder,
        cwd=folder,
    )
    (found,) = folder.glob("keyvalise-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a fresh environment that holds the wheel and sees this one's other packages."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    (purelib,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (purelib / "outer.pth").write_text("\n".join(here) + "\n", "utf-8")
    python = folder / "bin" / "python"
    _run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    return folder / "bin"


def test_the_wheel_holds_its_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in MUST_HOLD if name not in names] == []
    assert [name for name in names if not name.startswith(("keyvalise/", "keyvalise-"))] == []


def test_it_is_the_installed_one_that_answers(installed: Path, tmp_path: Path) -> None:
    where = _run(installed / "python", "-c", "import keyvalise; print(keyvalise.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


@pytest.mark.usefixtures("needs_cli")
def test_the_installed_command_runs_the_main_job(installed: Path, tmp_path: Path) -> None:
    assert "--json" in _run(installed / "keyvalise", DEMO[0], "--help", cwd=tmp_path)
    assert json.loads(_run(installed / "keyvalise", *DEMO, cwd=tmp_path))
