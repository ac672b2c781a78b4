"""docs/figures.md from the JSON lines in results/.

python bench/table.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cases

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"

AREAS = {
    "imports": "Start",
    "decode": "Decoding",
    "prefill": "Prefill",
    "first_token": "First token from a store",
    "retrieval": "Reading little of a long context",
    "reading_kernels": "Compiled loops of reading little",
    "roofline": "Attention against reading once",
    "shared": "Rows that share a beginning",
    "kvpress": "Agreement with kvpress",
}

COLUMNS = {
    "median_ms": ("ms", lambda x: f"{x:.2f}" if x < 100 else f"{x:.0f}"),
    "ratio": ("time of first", lambda x: f"{x:.2f}"),
    "mean_ratio": ("mean time of first", lambda x: f"{x:.2f}"),
    "cpu_ratio": ("processor time of first", lambda x: f"{x:.2f}"),
    "bytes": ("MiB held", lambda x: f"{x / 2**20:.2f}"),
    "peak_bytes": ("MiB more at the peak", lambda x: f"{x / 2**20:.1f}"),
    "transient_bytes": ("MiB transient", lambda x: f"{x / 2**20:.1f}"),
    "logits_error": ("error of logits", lambda x: f"{x:.1e}"),
    "read_ms": ("ms to read once", lambda x: f"{x:.2f}"),
    "share": ("of the roofline", lambda x: f"{100 * x:.0f} %"),
    "agreement": ("agreement", lambda x: f"{100 * x:.2f} %"),
    "least": ("least of a head", lambda x: f"{100 * x:.1f} %"),
    "heads": ("heads", lambda x: f"{x:.0f}"),
    "right": ("right answers", lambda x: f"{100 * x:.1f} %"),
    "differs": ("other than full's", lambda x: f"{x:.0f}"),
    "questions": ("questions", lambda x: f"{x:.0f}"),
    "read": ("read a step", lambda x: f"{100 * x:.2f} %"),
    "most": ("at most", lambda x: f"{100 * x:.2f} %"),
    "mass": ("mass read", lambda x: f"{x:.3f}"),
    "mass_exact": ("exact search's", lambda x: f"{x:.3f}"),
    "error": ("output error", lambda x: f"{x:.3f}"),
    "error_exact": ("exact search's", lambda x: f"{x:.3f}"),
    "index_bytes": ("MiB of index", lambda x: f"{x / 2**20:.1f}"),
    "index": ("index", lambda x: f"{100 * x:.1f} %"),
    "hot": ("kept near", lambda x: f"{100 * x:.1f} %"),
}
"""Number of a side → heading and how it is written."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def targets(records: Iterable[dict[str, Any]]) -> str:
    """Everything that was asked for, with what was found and the gap where it was missed."""
    rows = []
    for record in records:
        for target in record["targets"]:
            value, limit, sense = target["value"], target["limit"], "≥" if target["at_least"] else "≤"
            gap = "" if target["is_met"] else f"{100 * abs(value / limit - 1):.0f} %"
            rows.append(
                [
                    target["what"],
                    f"{value:.3g}",
                    f"{sense} {limit:g}",
                    "met" if target["is_met"] else "missed",
                    gap,
                ]
            )
    return table(["what", "measured", "asked", "", "gap"], rows)


def sides(record: dict[str, Any]) -> str:
    """All sides of a case."""
    names = [name for name in COLUMNS if any(name in side for side in record["sides"].values())]
    rows = []
    for side, numbers in record["sides"].items():
        cells = (COLUMNS[name][1](numbers[name]) if name in numbers else "" for name in names)
        rows.append([f"`{side}`", *cells])
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in record["settings"].items())
    notes = "".join(f"\n{note}\n" for note in record["notes"])
    numbers = table(["", *(COLUMNS[name][0] for name in names)], rows)
    return f"**{record['case']}** – {settings}\n\n{numbers}\n{notes}"


def where(records: list[dict[str, Any]]) -> str:
    """The machine and versions behind a page."""
    info = records[-1]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    seen = Counter(f"{one['processor']}, {one['cores']} cores" for one in (r["machine"] for r in records))
    machines = "; ".join(f"{name} ({n} cases)" for name, n in seen.most_common())
    loads = [record["machine"]["load"][0] for record in records]
    return (
        f"{machines}; Python {info['python']}, "
        f"{versions}. Load when a case began: {min(loads):g} to {max(loads):g}. Medians of alternating runs "
        "in one process; `time of first` compares with the first line of each table."
    )


def page() -> str:
    """The whole page."""
    found = {area: list(cases.done(area).values()) for area in AREAS}
    records = [record for area in found.values() for record in area]
    if not records:
        return "# Figures\n\nNothing has been measured yet: `make bench`.\n"
    parts = [
        "# Figures",
        "Generated by `python bench/table.py` from `bench/results/`; how it is measured: `bench/README.md`.",
        where(records),
        "## Targets",
        targets(records),
    ]
    for area, title in AREAS.items():
        if found[area]:
            parts += [f"## {title}", *(sides(record) for record in found[area])]
    return "\n\n".join(parts).rstrip() + "\n"


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    write()
