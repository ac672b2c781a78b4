"""Where a command's words go: results to stdout, progress and remarks to stderr, and how much of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

WIDE = 160
"""Columns for tables that go into a pipe or a file."""


@dataclass(frozen=True)
class Screen:
    """--json prints one document; --quiet only results; progress is shown to people alone."""

    json: bool = False
    quiet: bool = False

    @property
    def out(self) -> Console:
        console = Console(highlight=False)
        return console if console.is_terminal else Console(highlight=False, width=WIDE)

    @property
    def aside(self) -> Console:
        return Console(stderr=True, highlight=False)

    @property
    def has_progress(self) -> bool:
        return not (self.json or self.quiet) and self.aside.is_terminal

    def document(self, data: Any) -> None:
        """The JSON of a command."""
        print(json.dumps(data, indent=2, ensure_ascii=False))

    def result(self, text: str) -> None:
        """A line that is wanted in any case, unless JSON is."""
        if not self.json:
            print(text)

    def remark(self, text: str) -> None:
        """A line that explains; not for --quiet, not for --json."""
        if not (self.json or self.quiet):
            self.out.print(text, markup=False, soft_wrap=True)

    def warn(self, *texts: str) -> None:
        """Lines on stderr that are worth reading however quiet the command is."""
        for text in texts:
            self.aside.print(f"keyvalise: {text}", markup=False, soft_wrap=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
        """A table for people; the first column is left-aligned, figures are right-aligned."""
        if self.json or self.quiet:
            return
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for number, head in enumerate(heads):
            table.add_column(head, justify="left" if number == 0 else "right", no_wrap=number == 0)
        for row in rows:
            table.add_row(*row)
        self.out.print(table)

    @contextmanager
    def status(self, what: str) -> Iterator[None]:
        """A spinner on stderr with the seconds that a step without countable parts takes."""
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.aside,
            transient=True,
            disable=not self.has_progress,
        )
        with bar:
            bar.add_task(what, total=None)
            yield

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Progress]:
        """A bar on stderr; advance its only task."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.aside,
            transient=True,
            disable=not self.has_progress,
        )
        with bar:
            bar.add_task(what, total=total)
            yield bar
