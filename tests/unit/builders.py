"""Small values for tests of parts: environments, entries with poisoned dead slots, attended pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece, Stretch
from keyvalise.types.geometry import Geometry, Rope

NAN = float("nan")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers from a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_geometry(
    *, layers: int = 3, query_heads: int = 6, kv_heads: int = 2, dim: int = 10, softcap: float | None = None
) -> Geometry:
    return Geometry(layers, query_heads, kv_heads, dim, dim, torch.float32, dim**-0.5, softcap)


def make_rope(width: int = 8, *, interleaved: bool = False, scaling: float = 1.0) -> Rope:
    steps = torch.arange(width // 2, dtype=torch.float32)
    return Rope(100.0 ** (-2 * steps / width), interleaved, scaling)


def make_env(
    geometry: Geometry | None = None,
    *,
    layer: int = 0,
    seed: int = 0,
    prompt: tuple[int, ...] = (),
    rope: Rope | None = None,
) -> Env:
    return Env(layer, geometry or make_geometry(), rope, seed, prompt)


def make_entries(
    keys: Tensor,
    values: Tensor | None = None,
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    ordinals: Tensor | None = None,
    columns: Mapping[str, Tensor] | None = None,
    logw: Tensor | None = None,
) -> Entries:
    """Entries [B, H, T]; every dead slot of every float tensor holds NaN, whatever was given for it.

    `lengths` [B][H] default to T, `ordinals` to 0, 1, 2, …, `values` to ones.
    """
    n_rows, n_heads, width = keys.shape[:3]
    sizes = torch.full((n_rows, n_heads), width) if lengths is None else torch.tensor(lengths)
    live = torch.arange(width) < sizes[..., None]
    numbers = torch.arange(width).expand(live.shape) if ordinals is None else ordinals
    values = torch.ones_like(keys) if values is None else values
    keys, values = (x.masked_fill(~live[..., None], NAN) for x in (keys, values))
    return Entries(
        sizes.int(),
        live,
        numbers.masked_fill(~live, -1).int(),
        None if logw is None else logw.masked_fill(~live, NAN),
        {name: column.masked_fill(~live, NAN) for name, column in (columns or {}).items()},
        lambda: keys,
        lambda: values,
    )


def make_piece(q: Tensor, starts: tuple[int, ...] | None = None, lse: Tensor | None = None) -> Piece:
    """A piece of real tokens only, from ordinal 0 on unless `starts` says otherwise."""
    stretch = Stretch.whole(q.shape[2], starts or (0,) * q.shape[0])
    return Piece(q, q, q, stretch, True, None, None if lse is None else lambda: lse)


@dataclass(frozen=True)
class History:
    """One call with left padding, with its dense causal attention [B, Hq, N, N] over columns.

    Padding columns of q, k and v hold NaN.
    """

    geometry: Geometry
    q: Tensor
    k: Tensor
    v: Tensor
    counts: tuple[int, ...]

    @staticmethod
    def of(geometry: Geometry, counts: tuple[int, ...], seed: int = 0) -> History:
        n_rows, width, dim = len(counts), max(counts), geometry.key_dim
        is_pad = torch.arange(width) < width - torch.tensor(counts)[:, None]
        tensors = [
            random(n_rows, n_heads, width, dim, seed=seed + i).masked_fill(is_pad[:, None, :, None], NAN)
            for i, n_heads in enumerate((geometry.n_query_heads, geometry.n_kv_heads, geometry.n_kv_heads))
        ]
        return History(geometry, *tensors, counts)

    @property
    def stretch(self) -> Stretch:
        width = self.q.shape[2]
        leads = tuple(width - n for n in self.counts)
        return Stretch(width, (0,) * len(self.counts), leads, self.counts)

    def logits(self) -> Tensor:
        """float64 [B, Hq, N, N], −inf where the query does not see the column."""
        keys = self.k.repeat_interleave(self.geometry.group, 1).double()
        logits = self.geometry.scale * self.q.double() @ keys.transpose(-1, -2)
        if self.geometry.softcap is not None:
            logits = self.geometry.softcap * (logits / self.geometry.softcap).tanh()
        ordinals = self.stretch.ordinals()
        sees = (ordinals[:, None] <= ordinals[:, :, None]) & (ordinals >= 0)[:, None]
        return torch.where(sees[:, None], logits, -math.inf)

    def attention(self) -> Tensor:
        """float64 [B, Hq, N, N]; zero rows for padding."""
        return self.logits().softmax(-1).nan_to_num(0.0)

    def piece(self, begin: int = 0, end: int | None = None) -> Piece:
        lse = self.logits().logsumexp(-1).float()
        whole = Piece(self.q, self.k, self.v, self.stretch, True, None, lambda: lse)
        return whole.cut(begin, self.q.shape[2] if end is None else end)

    def entries(self, end: int | None = None, columns: Mapping[str, Tensor] | None = None) -> Entries:
        """What is held after the first `end` columns, padding removed."""
        ends = self.stretch.cut(0, self.q.shape[2] if end is None else end).ends
        width = max(*ends, 1)
        keys, values = (self.compact(x)[:, :, :width] for x in (self.k, self.v))
        lengths = [[n] * keys.shape[1] for n in ends]
        return make_entries(keys, values, lengths=lengths, columns=columns)

    def compact(self, x: Tensor) -> Tensor:
        """[B, H, N, …] moved to the left by every row's padding, which wraps around."""
        rows = [row.roll(-lead, 1) for row, lead in zip(x, self.stretch.leads, strict=True)]
        return torch.stack(rows)


def observed(observer: object, env: Env, history: History, cuts: Sequence[int] = ()) -> tuple[dict, Entries]:
    """Statistics and final entries (with columns) after the history was met in pieces cut at `cuts`."""
    stats: dict[str, Tensor] = observer.init(env, len(history.counts), "cpu")  # type: ignore[attr-defined]
    columns: dict[str, Tensor] = {}
    begin, width = 0, history.q.shape[2]
    for end in (*cuts, width):
        held = history.entries(end)
        grown = {name: _grow(column, held.live.shape[-1]) for name, column in columns.items()}
        held = replace(held, columns={name: c.masked_fill(~held.live, NAN) for name, c in grown.items()})
        stats, columns = observer.update(env, stats, history.piece(begin, end), held)  # type: ignore[attr-defined]
        begin = end
    return stats, replace(held, columns=columns)


def _grow(column: Tensor, width: int) -> Tensor:
    """A column after an append: new entries have zero."""
    return torch.nn.functional.pad(column, (0, width - column.shape[-1]))
