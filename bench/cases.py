"""What all benchmarks share: sides that take turns, figures with targets, and JSON lines that are not
repeated.

A case is a function that returns a `Figure`. A finished case is one line of `results/<area>.jsonl`; it is
skipped the next time unless `--again` is given, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("keyvalise", "torch", "transformers", "numba", "kvpress", "hqq", "optimum-quanto")


@dataclass(frozen=True)
class Target:
    """`value` must not exceed `limit`, or with `at_least` must reach it."""

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Figure:
    """settings: what was measured;  sides: name → its numbers (units in their names);  targets: what was
    asked for.
    """

    settings: dict[str, Any]
    sides: dict[str, dict[str, Any]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Case = Callable[[], Figure]


class Time(NamedTuple):
    """Seconds on the clock, and of all processors together, children included."""

    wall: float
    cpu: float


class Unavailable(Exception):
    """A rival is not installed; the case is left out, and the message says how to get it."""


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int, *, warm: int = 1) -> dict[str, list[Time]]:
    """What every run took: each side once in every round, and the next round begins with another side."""
    times: dict[str, list[Time]] = {name: [] for name in sides}
    order = list(sides)
    for i in range(warm + rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            begin = _now()
            sides[name]()
            end = _now()
            if i >= warm:
                times[name].append(Time(end.wall - begin.wall, end.cpu - begin.cpu))
    return times


def _now() -> Time:
    used = os.times()
    return Time(time.perf_counter(), time.process_time() + used.children_user + used.children_system)


def median(times: list[Time]) -> float:
    """Seconds on the clock."""
    return statistics.median(spent.wall for spent in times)


def summary(times: list[Time]) -> dict[str, Any]:
    """Median, quartiles and mean in milliseconds on the clock, and the median of processor time."""
    seconds = [spent.wall for spent in times]
    low, middle, high = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    )
    numbers = {"median_ms": middle, "low_ms": low, "high_ms": high, "mean_ms": statistics.fmean(seconds)}
    numbers["cpu_ms"] = statistics.median(spent.cpu for spent in times)
    return {name: round(1e3 * value, 4) for name, value in numbers.items()} | {"n": len(seconds)}


def paired(ours: list[Time], theirs: list[Time]) -> float:
    """The ratio of medians, ours to theirs."""
    return median(ours) / median(theirs)


def machine() -> dict[str, Any]:
    """Versions, processor, threads and how busy the machine is."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": versions,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def done(area: str) -> dict[str, dict[str, Any]]:
    """The finished cases of an area by name; a torn last line is left out."""
    path = RESULTS / f"{area}.jsonl"
    found = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["case"]] = record
    return found


def keep(area: str, records: Mapping[str, dict[str, Any]]) -> None:
    """Write all lines of an area, whole or not at all."""
    path = RESULTS / f"{area}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(record) + "\n" for record in records.values()), "utf-8")
    part.replace(path)


def main(area: str, cases: Mapping[str, Case]) -> int:
    """Run the cases that are not done, or those named; returns the exit code."""
    parser = argparse.ArgumentParser(description=f"Benchmark: {area}")
    parser.add_argument("only", nargs="*", help="names of cases, or how they begin; default: all")
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    options = parser.parse_args()
    names = [name for name in cases if not options.only or name.startswith(tuple(options.only))]
    if options.list:
        print("\n".join(names))
        return 0
    failed = False
    for name in names:
        records = done(area)
        if name in records and not options.again:
            print(f"{area} {name}: done before", flush=True)
            continue
        failed |= not _run(area, name, cases[name], records)
    return int(failed)


def _run(area: str, name: str, case: Case, records: dict[str, dict[str, Any]]) -> bool:
    """Run one case and keep its line; an error is told and does not stop the others."""
    info, begin = machine(), time.perf_counter()
    try:
        figure = case()
    except Unavailable as reason:
        print(f"{area} {name}: left out: {reason}", flush=True)
        return True
    except Exception as error:
        print(f"{area} {name}: failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    targets = [asdict(target) | {"is_met": target.is_met} for target in figure.targets]
    body = {"settings": figure.settings, "sides": figure.sides, "targets": targets, "notes": figure.notes}
    spent = round(time.perf_counter() - begin, 1)
    record = {"area": area, "case": name, **body, "seconds": spent, "machine": info}
    keep(area, records | {name: record})
    print(f"{area} {name}: {record['seconds']:.0f} s", flush=True)
    for target in figure.targets:
        sense = ">=" if target.at_least else "<="
        word = "met" if target.is_met else "MISSED"
        print(f"    {word:6} {target.what}: {target.value:.3g} ({sense} {target.limit:g})", flush=True)
    return True
