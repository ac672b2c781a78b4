"""What importing keyvalise adds to importing torch and transformers, and how long `keyvalise --help` takes.

    python bench/imports.py [--again]

Every number is the median of five fresh processes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import cases

RUNS = 5

_IMPORT = """
import time
import torch, transformers.cache_utils, transformers.modeling_utils
begin = time.perf_counter()
{line}
print(time.perf_counter() - begin)
"""

_HELP = "import sys; from keyvalise.cli import main; sys.argv = ['keyvalise', '--help']; main()"

LINES = {"import keyvalise": 0.3, "from keyvalise import KVCache": 0.3, "import keyvalise.api": 0.3}
"""Line → the most seconds it may add."""


def imported() -> cases.Figure:
    """Seconds after torch and transformers are there."""
    sides, targets = {}, []
    for line, limit in LINES.items():
        code = _IMPORT.format(line=line)
        seconds = [float(_python(code).split()[-1]) for _ in range(RUNS)]
        sides[line] = cases.summary(seconds)
        targets.append(cases.Target(f"{line}: seconds added", statistics.median(seconds), limit))
    settings = {"runs": RUNS, "after": "torch, transformers.cache_utils, transformers.modeling_utils"}
    return cases.Figure(settings, sides, targets)


def helped() -> cases.Figure:
    """Seconds of a whole `keyvalise --help`, start of Python included."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        _python(_HELP)
        seconds.append(time.perf_counter() - begin)
    target = cases.Target("keyvalise --help: seconds", statistics.median(seconds), 1.0)
    return cases.Figure({"runs": RUNS}, {"keyvalise --help": cases.summary(seconds)}, [target])


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(cases.main("imports", {"import": imported, "help": helped}))
