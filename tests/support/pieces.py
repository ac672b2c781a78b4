"""Any piece of any prompt, for tests of those who weigh what its queries pay."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from keyvalise.types.data import Entries, Piece
from keyvalise.types.geometry import Geometry
from tests.unit.builders import History, make_geometry, random


def any_piece(data: st.DataObject) -> tuple[Geometry, Piece, Entries]:
    """Queries of a prompt of rows of unequal length, and the entries before their end, some of no weight."""
    counts = tuple(data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=3)))
    group, dim = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 24))
    softcap = data.draw(st.sampled_from([None, 2.0]))
    history = History.of(make_geometry(query_heads=2 * group, dim=dim, softcap=softcap), counts, sum(counts))
    end = data.draw(st.integers(1, max(counts)))
    begin = data.draw(st.integers(0, end - 1))
    piece, entries = history.piece(begin, end), history.entries(end)
    if data.draw(st.booleans()):
        logw = random(*entries.live.shape, seed=3)
        logw[..., ::5] = -math.inf
        entries = replace(entries, logw=logw.masked_fill(~entries.live, math.nan))
    return history.geometry, piece, entries
