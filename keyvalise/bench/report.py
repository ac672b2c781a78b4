"""The report: one HTML file that needs nothing else, neither a network nor a server."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.io as io

from keyvalise.bench import plots, summary
from keyvalise.bench.plan import FULL
from keyvalise.bench.results import Result
from keyvalise.bench.summary import Row

STYLE = """
:root { color-scheme: light; --ink: #20262e; --faint: #6b7785; --line: #e3e7ec; --tint: #f5f7f9;
        --mark: #0b6e99 }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: #fff;
       max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: 0 0 .4rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .5rem }
p { margin: .4rem 0; max-width: 75ch } .faint { color: var(--faint) }
.best { font-weight: 600; color: var(--mark) } .wide { overflow-x: auto }
code { background: var(--tint); padding: .1em .35em; border-radius: 4px; font-size: .92em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; width: 100% }
th, td { padding: .32rem .55rem; text-align: right; border-bottom: 1px solid var(--line) }
td { white-space: nowrap } th { color: var(--faint); font-weight: 600; vertical-align: bottom }
#refused td { white-space: normal; text-align: left } th:first-child, td:first-child { text-align: left }
tbody tr:hover { background: var(--tint) } tr.full td { font-weight: 600 }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto }
"""

HEADS = (
    "recipe", "bytes", "share", "right", "95 % interval", "loss", "attention error",
    "prefill tok/s", "decode tok/s", "peak RSS",
)  # fmt: skip


def page(results: Sequence[Result], title: str = "What was kept, and what it cost") -> str:
    """The whole report as HTML."""
    table = summary.rows(results)
    chart = io.to_html(
        plots.accuracy(table), full_html=False, include_plotlyjs=True, config={"displaylogo": False}
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        *_lead(results, table),
        "<h2>Results</h2>",
        _results(table),
        *_refusals(results),
        "<h2>Right answers against bytes</h2>",
        f'<div id="accuracy">{chart}</div>',
        *_by_document(results),
        *_kept(results),
        *_ledger(results),
        *_machine(results),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Keyvalise: {escape(title)}</title><style>{STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _lead(results: Sequence[Result], table: Sequence[Row]) -> list[str]:
    if not results:
        return ["<p>Nothing has been measured yet.</p>"]
    settings = results[0].settings
    documents = {str(result.document): result.document for result in results}
    lengths = sorted({document["tokens"] for document in documents.values()})
    aware = (
        "<strong>Query-aware</strong>: every question was compressed together with the document, so these "
        "figures cannot be compared with those of a cache that is made once and asked many things."
        if settings["query_aware"]
        else "Every cache was made from the document alone; no question was seen before the compression."
    )
    n_all = max((row.n_all for row in table), default=0)
    return [
        f"<p>{_count(len(documents), 'document')} of {' and '.join(map(str, lengths))} tokens, "
        f"{_count(n_all, 'question')}, model <code>{escape(str(settings['model']))}</code>, "
        f"raw entries in {escape(str(settings['dtype']))}.</p>",
        f"<p>{aware}</p>",
        f'<p class="best">{escape(summary.last_line(table))}</p>' if len(table) > 1 else "",
    ]


def _results(table: Sequence[Row]) -> str:
    rows = [
        (
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
        )
        for row in table
    ]
    note = (
        "Share: of the keys and values of a 16-bit full cache. Loss: right answers lost, of those the full "
        "cache gave. Attention error: mean of ‖o − o_full‖ / ‖o_full‖ over layers, heads and the tokens of "
        "questions and answers along the full-cache run. Prefill: the shared forward with this recipe's own "
        "work alone; decode: one row, median step; peak RSS: of the whole process while this row answered."
    )
    return html_table(HEADS, rows, "results") + f'<p class="faint">{note}</p>'


def _refusals(results: Sequence[Result]) -> list[str]:
    refused = summary.refusals(results)
    rows = [(recipe, reason) for recipe, reason in refused.items()]
    return ["<h2>Not possible</h2>", html_table(("recipe", "why"), rows, "refused")] if rows else []


def _by_document(results: Sequence[Result]) -> list[str]:
    """Right answers per task and kind of document, where there is more than one."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        name = f"{result.document['task']}, {result.document['kind']}, {result.document['tokens']}"
        groups.setdefault(name, []).append(result)
    if len(groups) < 2:
        return []
    tables = {name: {row.recipe: row for row in summary.rows(found)} for name, found in groups.items()}
    recipes = dict.fromkeys(recipe for table in tables.values() for recipe in table)
    rows = [
        (recipe, *(f"{t[recipe].n_right}/{t[recipe].n_all}" if recipe in t else "" for t in tables.values()))
        for recipe in recipes
    ]
    return ["<h2>By document</h2>", html_table(("recipe", *tables), rows, "documents")]


def _first_document(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.document == results[0].document and result.right]


def _kept(results: Sequence[Result]) -> list[str]:
    first = _first_document(results)
    best = next((row.recipe for row in summary.fewest(summary.rows(first)).values() if row), None)
    # The most interesting map is shown first, the one without a gap last.
    figure = plots.kept(sorted(first, key=lambda result: (result.recipe == FULL, result.recipe != best)))
    if figure is None:
        return []
    chart = io.to_html(figure, full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return [
        "<h2>Kept tokens per layer and head</h2>",
        '<p class="faint">The first document; the darker, the more of the tokens there are still held.</p>',
        f'<div id="kept">{chart}</div>',
    ]


def _ledger(results: Sequence[Result]) -> list[str]:
    """Bytes by field for every recipe, as the ledger of the first document's cache lists them."""
    first = [result for result in _first_document(results) if result.fields]
    names = list(dict.fromkeys(name for result in first for name in result.fields or {}))
    rows = [
        (
            result.recipe,
            *(f"{(result.fields or {}).get(name, 0):,}" for name in names),
            f"{result.held_bytes:,}",
        )
        for result in first
    ]
    note = (
        "Bytes of every tensor that the cache of the first document holds, each storage once, slack included."
    )
    return [
        "<h2>Ledger</h2>",
        html_table(("recipe", *names, "total"), rows, "ledger"),
        f'<p class="faint">{note}</p>',
    ]


def _machine(results: Sequence[Result]) -> list[str]:
    machine = next((result.machine for result in results if result.machine), None)
    if machine is None:
        return []
    words = " · ".join(f"{escape(name)} {escape(str(value))}" for name, value in machine.items())
    return ["<h2>Measured with</h2>", f'<p class="faint">{words}</p>']


def html_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> str:
    """A table; the row of the full cache stands out."""
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in heads)
    body = "".join(
        f"<tr{' class=full' if row[0] == FULL else ''}>"
        + "".join(f"<td>{escape(str(c))}</td>" for c in row)
        + "</tr>"
        for row in rows
    )
    rows_html = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table id="{name}">{rows_html}</table></div>'


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
