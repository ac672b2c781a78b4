"""The heads of a model as maps: one heat map per measure, layers down, heads across."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as io
from plotly.subplots import make_subplots
from torch import Tensor

FONT = {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#20262e"}
COLUMNS = 3


def page(scores: Mapping[str, Tensor], title: str) -> str:
    """One HTML page that needs nothing else."""
    chart = io.to_html(figure(scores), full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>'
    style = (
        "<style>body{font:15px system-ui,sans-serif;color:#20262e;max-width:1080px;margin:2rem auto}</style>"
    )
    return (
        f"<!doctype html><html><head>{head}{style}</head><body><h1>{escape(title)}</h1>{chart}</body></html>"
    )


def figure(scores: Mapping[str, Tensor]) -> go.Figure:
    """All measures side by side, each on its own scale from 0 to its largest head."""
    n_rows = math.ceil(len(scores) / COLUMNS)
    drawn = make_subplots(n_rows, COLUMNS, subplot_titles=[name.replace("_", " ") for name in scores])
    for i, values in enumerate(scores.values()):
        heat = go.Heatmap(
            z=values.tolist(),
            zmin=0,
            colorscale="Blues",
            showscale=False,
            hovertemplate="layer %{y}, head %{x}: %{z:.3f}<extra></extra>",
        )
        drawn.add_trace(heat, i // COLUMNS + 1, i % COLUMNS + 1)
    drawn.update_yaxes(autorange="reversed", title="layer", dtick=max(1, len(values) // 8))
    drawn.update_xaxes(title="head", dtick=max(1, values.shape[1] // 8))
    drawn.update_layout(
        template="simple_white", font=FONT, height=80 + 240 * n_rows, margin={"t": 40, "l": 60}
    )
    return drawn


def write(path: Path, scores: Mapping[str, Tensor], title: str) -> None:
    """The page as a file."""
    path.write_text(page(scores, title), "utf-8")
