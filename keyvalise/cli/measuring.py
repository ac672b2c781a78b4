"""Carrying out a plan before a person's eyes: progress, results on disk, table, report, an orderly end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from keyvalise.bench import report, summary
from keyvalise.bench.measure import Bench
from keyvalise.bench.plan import FULL, Plan
from keyvalise.bench.results import Result, Results, write_whole
from keyvalise.cli.screen import Screen

HEADS = (
    "recipe", "bytes", "share", "right", "95 % interval", "loss", "attn error",
    "prefill tok/s", "decode tok/s", "peak RSS",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What lies in the folder after a run; `is_whole`: nothing is left to do."""

    results: list[Result]
    folder: Path
    is_whole: bool

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        table = summary.rows(self.results)
        best = {f"{loss:g}": row.recipe if row else None for loss, row in summary.fewest(table).items()}
        return {
            "settings": self.results[0].settings if self.results else None,
            "documents": list({str(r.document): r.document for r in self.results}.values()),
            "rows": [row.to_dict() for row in table],
            "refused": summary.refusals(self.results),
            "fewest_bytes_within_loss": best,
            "complete": self.is_whole,
            "report": str(self.report),
            "results": str(self.folder / "results.jsonl"),
        }


def carry_out(bench: Bench, plan: Plan, results: Results, screen: Screen) -> Outcome:
    """Measure what is not yet measured; after Ctrl-C the results so far are reported all the same."""
    keys = {plan.key(document, text): text for document, text in plan.cases()}
    is_whole = True
    try:
        with screen.progress(len(plan), "reading") as bar:
            bar.advance(bar.task_ids[0], sum(key in results.known for key in keys))
            for result in bench.run(plan, set(results.known)):
                results.add(result)
                bar.update(bar.task_ids[0], advance=1, description=result.recipe)
    except KeyboardInterrupt:
        is_whole = False
    outcome = Outcome(results.of(keys), results.path.parent, is_whole)
    if outcome.results:
        write_whole(outcome.report, report.page(outcome.results))
    return outcome


def show(outcome: Outcome, screen: Screen, model: str | None) -> None:
    """Table, last line and paths; leaves with 130 where the run was interrupted."""
    table = summary.rows(outcome.results)
    if screen.json:
        screen.document(outcome.to_dict())
    screen.table(HEADS, [cells(row) for row in table])
    for recipe, reason in summary.refusals(outcome.results).items():
        screen.remark(f"not possible: {recipe}: {reason}")
    if outcome.results:
        screen.remark(f"report: {outcome.report.resolve()}")
    if len(table) > 1:
        screen.result(summary.last_line(table, model))
    if not outcome.is_whole:
        where = outcome.folder / "results.jsonl"
        screen.warn(f"interrupted; {len(outcome.results)} results are kept in {where}")
        raise typer.Exit(130)


def cells(row: summary.Row) -> list[str]:
    """A row as the words of a table."""
    return [
        row.recipe,
        f"{row.held_bytes:,}",
        f"{row.share:.1%}",
        f"{row.n_right}/{row.n_all}",
        f"{row.low:.0%} - {row.high:.0%}",
        "" if row.recipe == FULL else f"{row.loss:.1%}",
        "" if row.error is None else f"{row.error:.4f}",
        f"{row.prefill_tokens_per_s:,.0f}",
        f"{row.decode_tokens_per_s:,.0f}",
        summary.size(row.peak_rss_bytes),
    ]
