"""Results of many documents as one row per recipe, and the fewest bytes that lose little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keyvalise.bench import statistics
from keyvalise.bench.plan import FULL
from keyvalise.bench.results import Result

LOSSES = (0.01, 0.03, 0.10)


@dataclass(frozen=True)
class Row:
    """One recipe over all documents that it and the full cache were measured on.

    Units   held_bytes and share: mean over documents; times: medians; peak_rss_bytes: largest
    loss    1 − right / right of the full cache, on the same questions
            loss_low, loss_high: 95 % interval of the difference of the two shares of right answers
    """

    recipe: str
    n_documents: int
    held_bytes: int
    share: float
    n_right: int
    n_all: int
    low: float
    high: float
    loss: float
    loss_low: float
    loss_high: float
    error: float | None
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_rss_bytes: int

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n_all

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a loss against nothing is null."""
        loss = None if math.isnan(self.loss) else self.loss
        return {**asdict(self), "accuracy": self.accuracy, "loss": loss}


def rows(results: Sequence[Result]) -> list[Row]:
    """One row per recipe in the order of the results; recipes without any answer have none."""
    full = {_place(result): result for result in results if result.recipe == FULL and result.right}
    by_recipe: dict[str, list[Result]] = {}
    for result in results:
        if result.right and _place(result) in full:
            by_recipe.setdefault(result.recipe, []).append(result)
    return [
        _row(text, found, [full[_place(result)] for result in found]) for text, found in by_recipe.items()
    ]


def refusals(results: Sequence[Result]) -> dict[str, str]:
    """Why recipes could not be built, recipe → reason."""
    return {result.recipe: result.refused for result in results if result.refused}


def _place(result: Result) -> str:
    return str(sorted(result.document.items()))


def _row(text: str, found: Sequence[Result], full: Sequence[Result]) -> Row:
    right = [one for result in found for one in result.right]
    base = [one for result in full for one in result.right]
    interval, lost = statistics.wilson(sum(right), len(right)), statistics.paired_loss(base, right)
    errors = [result.error for result in found if result.error is not None]
    return Row(
        text,
        len(found),
        round(sum(result.held_bytes for result in found) / len(found)),
        sum(result.share for result in found) / len(found),
        sum(right),
        len(right),
        interval.low,
        interval.high,
        (sum(base) - sum(right)) / sum(base) if any(base) else math.nan,
        lost.low,
        lost.high,
        sum(errors) / len(errors) if errors else None,
        statistics.median([result.n_tokens / max(result.prefill_s, 1e-9) for result in found]),
        statistics.median([result.decode_tokens_per_s for result in found]),
        max(result.peak_rss_bytes for result in found),
    )


def fewest(table: Sequence[Row], losses: Sequence[float] = LOSSES) -> dict[float, Row | None]:
    """For every loss the row with the fewest bytes that loses at most that much; `full` does not count."""
    found: dict[float, Row | None] = {}
    for loss in losses:
        fits = [row for row in table if row.recipe != FULL and row.loss <= loss + 1e-12]
        found[loss] = min(fits, key=lambda row: row.held_bytes, default=None)
    return found


def last_line(table: Sequence[Row], model: str | None = None) -> str:
    """One line: the fewest bytes within each loss, and the command that uses the most careful of them."""
    found = fewest(table)
    words = [
        f"{loss:.0%} {row.recipe} ({row.share:.1%}, {size(row.held_bytes)})" if row else f"{loss:.0%} none"
        for loss, row in found.items()
    ]
    first = next((row for row in found.values() if row), None)
    use = f"; {command(first.recipe, model)}" if first else ""
    return f"fewest bytes within a loss of: {' · '.join(words)}{use}"


def command(recipe: str, model: str | None = None) -> str:
    """The command line that answers a question with a recipe."""
    chosen = f' --model "{model}"' if model else ""
    return f'keyvalise generate{chosen} --recipe "{recipe}" --document FILE --question "…"'


def size(n_bytes: float) -> str:
    """Bytes for people: 8.4 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"
