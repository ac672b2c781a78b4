"""The report's two pictures: right answers against bytes, and which tokens were kept where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from keyvalise.bench.plan import FULL
from keyvalise.bench.results import Result
from keyvalise.bench.summary import Row

COLOURS = (
    "#4269d0", "#e07b00", "#d1495b", "#2a9d8f", "#3ca951", "#b06fd0", "#9c6b4e",
    "#6b7785", "#0f8bb5", "#c2a500", "#e377a9", "#5f8a3a", "#7a5cff", "#a83232",
)  # fmt: skip
MARKS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#20262e"}


def accuracy(table: Sequence[Row]) -> Any:
    """Right answers against the share of a 16-bit full cache, one line per recipe over its budgets."""
    figure = go.Figure()
    groups: dict[str, list[Row]] = {}
    for row in table:
        groups.setdefault(row.recipe.split(" @")[0], []).append(row)
    others = [name for name in groups if name != FULL]
    for name, found in groups.items():
        found = sorted(found, key=lambda row: row.share)
        number = others.index(name) if name != FULL else -1
        colour = "#20262e" if name == FULL else COLOURS[number % len(COLOURS)]
        figure.add_trace(_line(name, found, colour, MARKS[number % len(MARKS)]))
    full = next((row for row in table if row.recipe == FULL), None)
    if full is not None:
        figure.add_hline(y=full.accuracy, line={"color": "#20262e", "dash": "dot", "width": 1})
    figure.update_layout(
        template="simple_white",
        font=FONT,
        height=520,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        legend={"title": {"text": "recipe"}},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(
        type="log",
        title="bytes, share of a 16-bit full cache",
        tickformat="~%",
        tickvals=[0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1],
        showgrid=True,
        gridcolor="#eceff2",
    )
    figure.update_yaxes(
        title="right answers", tickformat=".0%", range=[-0.03, 1.05], showgrid=True, gridcolor="#eceff2"
    )
    return figure


def _line(name: str, found: Sequence[Row], colour: str, mark: str) -> Any:
    return go.Scatter(
        x=[row.share for row in found],
        y=[row.accuracy for row in found],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [row.high - row.accuracy for row in found],
            "arrayminus": [row.accuracy - row.low for row in found],
            "thickness": 1,
            "width": 3,
        },
        mode="lines+markers",
        name=name,
        opacity=0.9,
        line={"color": colour, "width": 1.5},
        marker={"size": 10, "symbol": mark, "color": colour},
        customdata=[(row.recipe, row.n_right, row.n_all, row.held_bytes) for row in found],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}/%{customdata[2]} right"
        "<br>%{customdata[3]:,} bytes (%{x:.1%})<extra></extra>",
    )


def kept(results: Sequence[Result]) -> Any | None:
    """Share of tokens kept along the document, per layer and kv head; a menu chooses the recipe."""
    mapped = [result for result in results if result.kept]
    if not mapped:
        return None
    figure = go.Figure()
    for number, result in enumerate(mapped):
        figure.add_trace(_map(result, number == 0))
    buttons = [
        {
            "label": result.recipe,
            "method": "update",
            "args": [{"visible": [i == number for i in range(len(mapped))]}],
        }
        for number, result in enumerate(mapped)
    ]
    n_rows = sum(map(len, mapped[0].kept or ()))
    figure.update_layout(
        template="simple_white",
        font=FONT,
        height=max(320, min(1400, 150 + 20 * n_rows)),
        margin={"l": 120, "r": 20, "t": 60, "b": 60},
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}],
    )
    figure.update_xaxes(title="position in the document, tokens")
    figure.update_yaxes(autorange="reversed", title=None, showline=False, ticks="")
    return figure


def _map(result: Result, is_visible: bool) -> Any:
    layers = result.kept or []
    names = [f"layer {i} · head {j}" for i, layer in enumerate(layers) for j in range(len(layer))]
    rows = [head for layer in layers for head in layer]
    counts = [n for layer in result.entries or [] for n in layer]
    width = result.n_tokens / len(rows[0])
    return go.Heatmap(
        z=rows,
        x=[round((i + 0.5) * width) for i in range(len(rows[0]))],
        y=names,
        zmin=0,
        zmax=1,
        visible=is_visible,
        colorscale=[[0, "#f5f7f9"], [0.15, "#cfe3ef"], [0.5, "#4f9ac4"], [1, "#0b3c5d"]],
        colorbar={"title": {"text": "kept"}, "tickformat": ".0%"},
        customdata=[[n] * len(rows[0]) for n in counts],
        hovertemplate="%{y}<br>around token %{x}: %{z:.0%} kept<br>%{customdata} entries in this head"
        "<extra></extra>",
    )
