"""The values that flow through the river: stretches, pieces, entries, scores, choices, partials, memories.

Axes    B rows, Hq/H query/kv heads, S new tokens, T stored entries, D key dim, Dv value dim
Clocks  columns (what a cache reports as length), ordinals (real tokens of a row), positions (angles only)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from keyvalise.types.geometry import Geometry, Rope

if TYPE_CHECKING:
    from keyvalise.types.scratch import Scratch
    from keyvalise.types.segment import Segment
    from keyvalise.types.slow import Slow
    from keyvalise.types.when import Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which columns of a call hold real tokens, and their ordinals; one entry per row.

    Row b's real tokens are the columns leads[b] … leads[b] + counts[b] − 1, with ordinals from starts[b] on.
    """

    width: int
    starts: tuple[int, ...]
    leads: tuple[int, ...]
    counts: tuple[int, ...]

    @staticmethod
    def whole(width: int, starts: tuple[int, ...]) -> Stretch:
        """A stretch without padding."""
        return Stretch(width, starts, (0,) * len(starts), (width,) * len(starts))

    @property
    def is_plain(self) -> bool:
        """Whether no row holds padding."""
        return all(n == self.width for n in self.counts)

    def cut(self, begin: int, end: int) -> Stretch:
        """The columns begin … end − 1 of this stretch."""
        if (begin, end) == (0, self.width):
            return self
        starts, leads, counts = [], [], []
        for start, lead, n in zip(self.starts, self.leads, self.counts, strict=True):
            first, last = min(max(lead, begin), end), max(min(lead + n, end), begin)
            starts.append(start + min(max(begin - lead, 0), n))
            leads.append(first - begin)
            counts.append(max(last - first, 0))
        return Stretch(end - begin, tuple(starts), tuple(leads), tuple(counts))

    def ordinals(self, device: torch.device | None = None) -> Tensor:
        """int32 [B, S]; −1 marks padding."""
        if self.is_plain and len(self.starts) == 1:
            return torch.arange(self.starts[0], self.ends[0], dtype=torch.int32, device=device)[None]
        column = torch.arange(self.width, dtype=torch.int32)
        rows = [
            torch.where((column >= lead) & (column < lead + n), column - lead + start, -1)
            for start, lead, n in zip(self.starts, self.leads, self.counts, strict=True)
        ]
        return torch.stack(rows).to(device)

    @property
    def ends(self) -> tuple[int, ...]:
        """Ordinal after the last real token, per row."""
        return tuple(start + n for start, n in zip(self.starts, self.counts, strict=True))


@dataclass(frozen=True, slots=True)
class Partial:
    """What one segment answers: `out` [B, Hq, S, Dv] float32 and its absolute `lse` [B, Hq, S] float32.

    The empty answer is (0, −inf).
    """

    out: Tensor
    lse: Tensor


@dataclass(frozen=True)
class Queries:
    """The queries of one piece, [B, Hq, S, D] as the host gave them, and what turns them.

    is_prompt    the piece belongs to a prompt; readers may then read everything
    scratch      what the layer below has left in this call;  stats: what is remembered of earlier queries
    slot_shift   per row, how far a newest token's slot lies from its ordinal, where keys are read by slot
    """

    q: Tensor
    stretch: Stretch
    geometry: Geometry
    rope: Rope | None = None
    is_prompt: bool = False
    slot_shift: tuple[int, ...] | None = None
    scratch: Scratch | None = None
    stats: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        return self.geometry.scale

    @property
    def softcap(self) -> float | None:
        return self.geometry.softcap


@dataclass(frozen=True)
class Piece:
    """What one memory met between two cuts.

    Shapes   q [B, Hq, S, D], k [B, H, S, D], v [B, H, S, Dv] in the model's dtype, as the host gave them;
             out [B, Hq, S, Dv], lse [B, Hq, S] float32, filled by the attend
    """

    q: Tensor
    k: Tensor
    v: Tensor
    stretch: Stretch
    is_prompt: bool = False
    out: Tensor | None = None
    find_lse: Callable[[], Tensor] | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def lse(self) -> Tensor:
        """[B, Hq, S] float32, −inf for padding; computed when first asked for."""
        if self.find_lse is None:
            raise RuntimeError("this piece has not been attended yet")
        return self.find_lse()

    def cut(self, begin: int, end: int) -> Piece:
        """The columns begin … end − 1 as a piece of their own, not yet attended unless this one was."""
        if (begin, end) == (0, self.stretch.width):
            return self
        span = slice(begin, end)
        return Piece(
            self.q[:, :, span],
            self.k[:, :, span],
            self.v[:, :, span],
            self.stretch.cut(begin, end),
            self.is_prompt,
            None if self.out is None else self.out[:, :, span],
            None if self.find_lse is None else (lambda: self.lse[:, :, span]),
            {name: tap[:, span] for name, tap in self.taps.items()},
        )


@dataclass(frozen=True)
class Entries:
    """What may be judged: the writable entries of one layer, compact and ascending by ordinal in every head.

    Shapes   lengths int32 [B, H]; live bool [B, H, T]; ordinals int32 [B, H, T], −1 where dead;
             logw float32 [B, H, T] or None; columns name → [B, H, T] float32
    """

    lengths: Tensor
    live: Tensor
    ordinals: Tensor
    logw: Tensor | None
    columns: Mapping[str, Tensor]
    decode_keys: Callable[[], Tensor]
    decode_values: Callable[[], Tensor]

    @cached_property
    def _keys(self) -> Tensor:
        return self.decode_keys()

    @cached_property
    def _values(self) -> Tensor:
        return self.decode_values()

    def keys(self) -> Tensor:
        """[B, H, T, D] in the stored dtype, decoded when first asked; dead slots hold zeros."""
        return self._keys

    def values(self) -> Tensor:
        """[B, H, T, Dv] in the stored dtype, decoded when first asked; dead slots hold zeros."""
        return self._values

    def column(self, name: str) -> Tensor:
        """The named column, zeros where no observer has written yet."""
        found = self.columns.get(name)
        return torch.zeros(self.live.shape, device=self.live.device) if found is None else found


ScoreKind = Literal["mass", "logit", "free"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How much every entry matters: values [B, Hq | H | 1, T] float32, finite, −inf where it must go.

    "mass" is ≥ 0 and sums to 1 over the live entries of a head; "logit" is a pre-softmax score; "free" is
    neither. `base` are the scores before values or projections weighed them, on the same axes, if they were.
    """

    values: Tensor
    kind: ScoreKind = "free"
    base: Tensor | None = None

    def with_values(self, values: Tensor, kind: ScoreKind | None = None) -> Scores:
        return Scores(values, kind or self.kind)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries stay, and what becomes of them.

    Shapes   keep bool [B, H, T]; add_logw float32 [B, H, T], added to their log-weights, or None
             keys [B, H, T, D], values [B, H, T, Dv]: what raw keepers hold from now on, or None: the same.
             Codes keep what is written in them.
    """

    keep: Tensor
    add_logw: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sketch:
    """What an act remembers of the losers: entries that are read like others and never judged.

    Shapes   keys [B, H, M, D], values [B, H, M, Dv] as stored; logw float32 [B, H, M], −inf for nothing
    """

    keys: Tensor
    values: Tensor
    logw: Tensor


@dataclass(frozen=True)
class Env:
    """What a part may know of its layer; read-only.

    Draws are hashes of (seed, part, layer, kv head, ordinal), see ops.hashing. `prompt` holds the tokens that
    every row had seen at its latest prompt end, `seen` those up to a decision, `layers` those in which the
    stage decides (none named: all), `spans` the ordinals (first, end) that a name marks in every row, `fixed`
    the tensors of assets, `weights` those of the layer itself that a part needs ("o_proj": [Hq, Dv, E]),
    `slow` the cache's slower tiers.
    """

    layer: int
    geometry: Geometry
    rope: Rope | None = None
    seed: int = 0
    prompt: tuple[int, ...] = ()
    fixed: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    spans: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    seen: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    slow: Slow | None = None

    @property
    def among(self) -> tuple[list[int], int]:
        """The layers in which the stage decides, and the place of this one among them."""
        layers = list(self.layers or range(self.geometry.n_layers))
        return layers, layers.index(self.layer)


@dataclass(frozen=True)
class Memory:
    """One layer's memory: a value. Appending may write behind the length older values see, nowhere else.

    clock, prompt   tokens that every row has seen, now and at its latest prompt end;  stats: [B, …] by name
    """

    segments: tuple[Segment, ...]
    stats: Mapping[str, Tensor]
    clock: tuple[int, ...]
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """What one layer meets in one forward call.

    spans    per row, where prompts end and which extra cuts are asked for
    native   the output [B, Hq, S, Dv] of the model's own attention; right while nothing is stored yet
    careful  the column from which on to cut after every token, so that drafts can be taken back one by one
    """

    piece: Piece
    spans: tuple[Span, ...]
    native: Callable[[], Tensor] | None = None
    careful: int | None = None

    def is_past_prompt(self, piece: Piece) -> bool:
        """Whether a piece of this call lies behind the prompt's end in every row."""
        places = zip(piece.stretch.starts, self.spans, strict=True)
        return all(span.prompt_end is not None and start >= span.prompt_end for start, span in places)
