"""Starting is quick: importing the package, all its names, and asking the command line for help.

Times are processor seconds, medians of three fresh processes, so that a busy machine does not fail them;
`SLACK` is for machines slower than the one the budgets were set on.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

import pytest

from tests.house.checks.source import ROOT

IMPORT_S, HELP_S, SLACK = 0.3, 1.0, 2.0
N_RUNS = 3

HEAVY = ("torch", "transformers", "numba", "plotly", "numpy")
IMPORTS = """
import time, torch, transformers.cache_utils, transformers.modeling_utils
start = time.process_time()
import keyvalise
package = time.process_time()
import keyvalise.api
print(package - start, time.process_time() - start)
"""
HELP = "import sys; sys.argv = ['keyvalise', '--help']; from keyvalise.cli import main; main()"


def _run(code: str) -> str:
    # Compiled modules are found by all runs but the first, as in an installed package.
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _run(f"import sys, keyvalise; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.usefixtures("needs_public_rooms")
def test_importing_adds_little_to_the_host() -> None:
    """The package alone, and with every public name, on top of what the host loads anyway."""
    package, names = zip(*(map(float, _run(IMPORTS).split()) for _ in range(N_RUNS)), strict=True)
    assert statistics.median(package) < IMPORT_S * SLACK
    assert statistics.median(names) < IMPORT_S * SLACK


@pytest.mark.usefixtures("needs_cli")
def test_help_is_quick() -> None:
    times = []
    for _ in range(N_RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "demo" in _run(HELP)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(times) < HELP_S * SLACK


@pytest.mark.usefixtures("needs_cli")
def test_help_loads_nothing_heavy() -> None:
    report = f"print([name for name in {HEAVY} if name in sys.modules])"
    assert (
        _run(f"import atexit, sys; atexit.register(lambda: {report}); {HELP}").strip().splitlines()[-1]
        == "[]"
    )
