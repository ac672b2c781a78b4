"""What many recipes observe in the same prompt, observed once.

An observer is a pure function, so equal observers that meet the same whole prompt remember the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from keyvalise.recipe.river import LayerRiver
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer

Found = tuple[dict[str, Tensor], dict[str, Tensor]]
Notes = dict[tuple[Any, ...], tuple[Tensor, Found]]


@dataclass(frozen=True)
class OnceObserver:
    """An observer that looks up what an equal one has made of the same prompt; of later pieces it makes its
    own.
    """

    inner: Observer
    memo: Notes = field(compare=False, repr=False)

    @property
    def stats(self) -> frozenset[str]:
        return self.inner.stats

    @property
    def columns(self) -> frozenset[str]:
        return self.inner.columns

    def stat_bytes(self, geometry: Geometry) -> int:
        return self.inner.stat_bytes(geometry)

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        return self.inner.init(env, n_rows, device)

    def update(self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries) -> Found:
        is_whole = not any(piece.stretch.starts) and piece.stretch.width == entries.live.shape[-1]
        if not is_whole:
            return self.inner.update(env, stats, piece, entries)
        key = (self.inner, env.layer, env.geometry, piece.q.data_ptr(), piece.q.shape)
        if key not in self.memo:
            # The queries are held with what was made of them, so that no others come to lie at their address.
            self.memo[key] = piece.q, self.inner.update(env, stats, piece, entries)
        return self.memo[key][1]


@dataclass
class Memo:
    """Lends observers to rivers while a prompt is read; forgets everything when it is left."""

    found: Notes = field(default_factory=dict)

    def lend(self, river: LayerRiver) -> LayerRiver:
        """The same river, whose observers look each other's findings up."""
        return replace(
            river,
            always=tuple(OnceObserver(observer, self.found) for observer in river.always),
            in_prompt=tuple(OnceObserver(observer, self.found) for observer in river.in_prompt),
        )

    def __enter__(self) -> Memo:
        return self

    def __exit__(self, *error: object) -> None:
        self.found.clear()
