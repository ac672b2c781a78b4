"""What importing keyvalise adds to importing torch and transformers, and how long `keyvalise --help` takes.

    python bench/imports.py [--again]

Every number is the median of five fresh processes that find the package compiled, as an installed one is.
"""

from __future__ import annotations

import os
import subprocess
import sys

import cases

RUNS = 5

LINES = ("import keyvalise", "from keyvalise import KVCache")
"""Lines in the order in which a process runs them; the seconds of one hold those of the lines before it."""

MOST_IMPORT_S, MOST_HELP_S = 0.3, 1.0

_IMPORT = """
import time
import torch, transformers.cache_utils, transformers.modeling_utils
begin = time.perf_counter(), time.process_time()
for line in {lines!r}:
    exec(line)
    print(time.perf_counter() - begin[0], time.process_time() - begin[1])
"""

_HELP = "import sys; from keyvalise.cli import main; sys.argv = ['keyvalise', '--help']; main()"


def imported() -> cases.Figure:
    """Seconds after torch and transformers are there."""
    runs = [_python(_IMPORT.format(lines=LINES)).split() for _ in range(1 + RUNS)][1:]
    sides, targets = {}, []
    for i, line in enumerate(LINES):
        times = [cases.Time(float(run[2 * i]), float(run[2 * i + 1])) for run in runs]
        sides[line] = cases.summary(times)
        targets.append(cases.Target(f"{line}: seconds added", cases.median(times), MOST_IMPORT_S))
    settings = {"runs": RUNS, "after": "torch, transformers.cache_utils, transformers.modeling_utils"}
    return cases.Figure(settings, sides, targets)


def helped() -> cases.Figure:
    """Seconds of a whole `keyvalise --help`, start of Python included."""
    times = cases.alternate({"help": lambda: _python(_HELP)}, RUNS)["help"]
    target = cases.Target("keyvalise --help: seconds", cases.median(times), MOST_HELP_S)
    return cases.Figure({"runs": RUNS}, {"keyvalise --help": cases.summary(times)}, [target])


def _python(code: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(cases.main("imports", {"import": imported, "help": helped}))
