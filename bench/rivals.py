"""Environments of rivals, made once outside the checkout; nothing of them is ever committed.

    python bench/rivals.py        makes what is missing; needs a package index

kvpress             an environment of its own: it needs an older transformers
hqq, optimum-quanto back ends of transformers' quantized cache: a folder that is put on the path
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import cases

HOME = Path(os.environ.get("KEYVALISE_RIVALS", Path(tempfile.gettempdir()) / "keyvalise-rivals"))
BACKENDS = ("hqq", "termcolor", "einops", "accelerate", "optimum-quanto")
KVPRESS = ("torch==2.13.0", "kvpress")


BACKENDS_FOLDER = Path(os.environ.get("KEYVALISE_BACKENDS", HOME / "backends"))
if BACKENDS_FOLDER.is_dir() and str(BACKENDS_FOLDER) not in sys.path:
    # transformers looks for them once, when it is imported.
    sys.path.append(str(BACKENDS_FOLDER))


def kvpress_python() -> Path:
    """The interpreter that has kvpress.

    Raises   Unavailable where there is none
    """
    named = os.environ.get("KVPRESS_PYTHON")
    python = Path(named) if named else HOME / "kvpress" / "bin" / "python"
    if not python.exists():
        raise cases.Unavailable(
            "kvpress is not installed; `python bench/rivals.py` makes an environment for it"
        )
    return python


def _install(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *arguments], check=True)


def make() -> None:
    """Make what is missing."""
    home = HOME / "kvpress"
    if not (home / "made").exists():
        venv.create(home, with_pip=True, clear=True)
        python = home / "bin" / "python"
        # In this order: kvpress alone would draw a far larger torch.
        for package in KVPRESS:
            _install(python, package)
        (home / "made").touch()
    if not (BACKENDS_FOLDER / "made").exists():
        target = ("--no-deps", "--no-build-isolation", "--target", str(BACKENDS_FOLDER))
        _install(Path(sys.executable), *target, *BACKENDS)
        (BACKENDS_FOLDER / "made").touch()


if __name__ == "__main__":
    make()
    print(f"rivals are in {HOME}")
