"""How keepers are written: codes, what they are given instead of keys and values, and whose entries they are.

A code is a part like others; the tensors that it makes are flat, one row per entry, without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Part


@dataclass(frozen=True, slots=True)
class Codes:
    """Named tensors of a coded run: `entry` [N, …], one row per entry; `group` [M, …], shared by entries;
    `home` [B·H, …], one row per (row, head), fixed when its first entry was coded.
    """

    entry: Mapping[str, Tensor]
    group: Mapping[str, Tensor]
    home: Home = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Where:
    """Whose entries a flat run holds.

    heads      int64 [N]: the kv head of every entry;  homes int64 [N]: row·H + head, which finds `Codes.home`
    group_of   int64 [N] finds an entry's group;  None: consecutive entries share
    positions  int [N]: how far keys that are given as they are stored have been turned;  None: not at all
    """

    heads: Tensor
    homes: Tensor
    group_of: Tensor | None = None
    positions: Tensor | None = None

    @staticmethod
    def alone(n: int, group_of: Tensor | None = None) -> Where:
        """n entries of the first head of the first row."""
        return Where(torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), group_of)


Home = Mapping[str, Tensor]
"""name → tensor [B·H, …]: the parameters of every (row, head)."""

Side = Literal["pre", "post"]
"""Whether a code is given keys before the model's rotary embedding, or as they are stored."""


class Code(Part, Protocol):
    """What is known of every code.

    `group`     tokens that share parameters: entries leave the raw tail in multiples of it
    `residual`  the most that stays raw, in tokens per kv head
    """

    @property
    def group(self) -> int: ...
    @property
    def residual(self) -> int: ...
    @property
    def side(self) -> Side: ...

    def check(self, geometry: Geometry) -> None:
        """Raise BadArgument where an argument does not fit the head size."""
        ...

    def bytes_per_entry(self, geometry: Geometry) -> float:
        """Bytes of one coded key and value of one kv head, with scales and zeros, in a full group."""
        ...

    def group_bytes(self, geometry: Geometry) -> int:
        """Bytes of the group tensors for one group of one kv head; 0 where tokens share nothing."""
        ...


class Encode(Code, Protocol):
    """How keepers are written, head by head.

    Codes are flat: entry tensors [N, …] (one row per entry), group tensors [N / group, …].
    """

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        """keys [N, D], values [N, Dv], N a multiple of `group`; consecutive entries form the groups."""
        ...

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        """Keys [N, D] and values [N, Dv]."""
        ...


Below = tuple[Tensor, Tensor]
"""Keys [N, H, D] before the rotary embedding and values [N, H, Dv] of the same tokens in the layer below, as
they are read there.
"""


@runtime_checkable
class Chained(Protocol):
    """A code of whole tokens, all heads together, that builds on how the layer below is read; it needs one
    kept set for all heads and layers.
    """

    def write(self, env: Env, keys: Tensor, values: Tensor, below: Below | None) -> dict[str, Tensor]:
        """Keys [N, H, D] before the rotary embedding, values [N, H, Dv] → tensors [N, …]."""
        ...

    def read(self, env: Env, codes: Mapping[str, Tensor], below: Below | None) -> Below:
        """What the layer above builds on, float32."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A code or transform with parameters per (row, head), found when the first entries are coded."""

    def home_bytes(self, geometry: Geometry) -> int:
        """Bytes of the parameters of one (row, head)."""
        ...

    def fit(self, env: Env, keys: Tensor, values: Tensor, where: Where, n_homes: int) -> dict[str, Tensor]:
        """Parameters [n_homes, …]; of a home without entries anything finite."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of every query head, put to a block of one row's entries.

    q          [G·h, D]: G queries for each of the block's h kv heads, turned as the model turns them
    bounds     h + 1 edges: head `first` + i owns the entries bounds[i] … bounds[i + 1] − 1 of the block
    logw       float32 [n], added to the logits behind scale and soft cap, or None
    """

    q: Tensor
    first: int
    bounds: tuple[int, ...]
    scale: float
    softcap: float | None = None
    logw: Tensor | None = None

    @property
    def group(self) -> int:
        """G: queries per kv head."""
        return self.q.shape[0] // (len(self.bounds) - 1)


@runtime_checkable
class Direct(Protocol):
    """A code that answers queries from what is written, without spelling entries out.

    Law      equals attention over what `decode` gives, to 1e-4
    """

    def attend(self, env: Env, codes: Codes, where: Where, asked: Asked) -> tuple[Tensor, Tensor]:
        """out float32 [G·h, Dv] and the absolute lse float32 [G·h]; (0, −inf) for a head without entries.

        where.positions   how far stored keys are turned; a code whose side is "pre" turns its own when it
                          reads
        """
        ...


@dataclass(frozen=True, slots=True)
class Folded:
    """Queries that ask entries as they are written, instead of entries that are turned back to them.

    code, env   what is written, and the shapes that it knows
    q           float32 [B, Hq, S, D'], with q·k = q'·k' + shift
    shift       float32 [B, Hq, S], or None where nothing is
    back        out float32 [B, Hq, S, Dv'] → [B, Hq, S, Dv]
    """

    code: Encode
    env: Env
    q: Tensor
    shift: Tensor | None
    back: Callable[[Tensor], Tensor]


@runtime_checkable
class Folding(Protocol):
    """A code behind transforms that queries and answers can take upon them."""

    def fold(self, env: Env, q: Tensor, home: Home) -> Folded | None:
        """For queries [B, Hq, S, D]; None where only entries can be turned back."""
        ...


@dataclass(frozen=True, slots=True)
class Back:
    """The way back of every head: x = x'·mapᵀ + mean; None: the identity, or zero.

    Shapes   map [B | 1, H | 1, D, r], mean [B | 1, H | 1, D]
    """

    map: Tensor | None = None
    mean: Tensor | None = None


@runtime_checkable
class Affine(Protocol):
    """A transform with one way back for all entries of a head."""

    def ways_back(self, env: Env, home: Home) -> tuple[Back, Back]:
        """Of keys, and of values."""
        ...


@runtime_checkable
class Trained(Protocol):
    """A code or transform with an asset that one training makes (`keyvalise calibrate`).

    `asked_for`  what the asset must have been made for, beside the model: an asset that says otherwise in its
                 header's "for" is refused
    """

    @property
    def asked_for(self) -> Mapping[str, int | float | bool | str]: ...


class Transform(Part, Protocol):
    """What a code is given instead of keys and values, one row per entry, and the way back.

    `side`  before or after the model's rotary embedding, or None: wherever the code wants it
    """

    @property
    def side(self) -> Side | None: ...

    def shape(self, geometry: Geometry) -> Geometry:
        """The geometry of what the code is given.

        Raises   BadArgument where an argument does not fit the head size
        """
        ...

    def forward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        """float32 keys [N, D], values [N, Dv] → [N, D'], [N, Dv']."""
        ...

    def backward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        """The way back; what `forward` gave in full comes back up to rounding, or to its best likeness."""
        ...
