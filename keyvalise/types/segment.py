"""What a layer's memory is made of: `Held` things have bytes, `Segment`s answer queries, `Writable`s take
entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from keyvalise.types.data import Entries, Partial, Queries

Angle = Literal["absolute", "slot"]
"""How a stored key is turned when it is read: by its own position, or by its slot among the stored ones."""

Named = tuple[str, str, Tensor]
"""(ledger field, tier, tensor): fields are keys, values, codes, scales, positions, logw, columns, stats,
index.
"""


@runtime_checkable
class Held(Protocol):
    """Whatever occupies bytes: segments, indexes, recurrent states."""

    def tensors(self) -> Iterable[Named]:
        """Every tensor this holds; bytes are the distinct storages behind them."""
        ...

    def rows(self, index: Tensor) -> Held:
        """A copy whose row i is the old row index[i] (int64 [B'])."""
        ...


@runtime_checkable
class Segment(Held, Protocol):
    """A run of tokens in one representation; immutable.

    `frozen` segments are read, but nobody scores, takes or re-encodes them.
    """

    kind: ClassVar[str]
    frozen: ClassVar[bool]

    def attend(self, queries: Queries) -> tuple[Partial, Segment]:
        """Answer the queries; the second result differs only in what is remembered about reading."""
        ...


@runtime_checkable
class Writable(Segment, Protocol):
    """A segment whose entries can be judged, kept and dropped."""

    @property
    def lengths(self) -> Tensor:
        """int32 [B, H]."""
        ...

    def entries(self) -> Entries:
        """Its entries, padded to the longest head."""
        ...

    def with_columns(self, columns: Mapping[str, Tensor]) -> Writable:
        """The same entries with exactly these columns [B, H, T]."""
        ...
