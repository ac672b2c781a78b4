"""All benchmarks that are not done, then the table: `make bench` calls this.

    python bench/all.py [--again] [--only AREA …]

Interrupted, it goes on where it stopped. A missed target is no error: it stands in the table with its gap.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import rivals
import table

AREAS = (
    "imports",
    "decode",
    "prefill",
    "reading_kernels",
    "roofline",
    "retrieval",
    "shared",
    "first_token",
    "kvpress_agreement",
)


def main() -> int:
    """Run every area in a process of its own; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    parser.add_argument("--only", nargs="+", choices=AREAS, default=AREAS)
    options = parser.parse_args()
    begin, failed = time.perf_counter(), []
    try:
        rivals.make()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"rivals could not be installed and are left out: {error}", flush=True)
    for area in options.only:
        script = Path(__file__).with_name(f"{area}.py")
        if subprocess.run([sys.executable, str(script), *(["--again"] if options.again else [])]).returncode:
            failed.append(area)
    table.write()
    print(f"{time.perf_counter() - begin:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
