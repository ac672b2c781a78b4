"""A file whose parts are streams: raw keys and values at a level, all other numbers as they are.

    sheets   keys and values of every raw run, one stream for all layers
    arrays   every other part, one stream, bit for bit

The header says which parts lie in which stream; whoever asks for a part by its name need not know. The coder
is imported when a stream is met, since most caches never see one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from keyvalise.store import file
from keyvalise.store.file import Bytes, Stored
from keyvalise.store.source import Source
from keyvalise.types.errors import Damaged, DamagedStream
from keyvalise.types.geometry import Rope

if TYPE_CHECKING:
    from keyvalise.store.stream import Sheet

SHEETS, ARRAYS = "sheets", "arrays"
NUMBERS = (torch.float32, torch.bfloat16, torch.float16)
"""Of which a sheet's keys and values may be."""


@dataclass(frozen=True, eq=False)
class Raw:
    """A run of raw entries by the names of its parts.

    Shapes   the parts keys [..., N, D], values [..., N, Dv];  ordinals int32 [N] or [heads, N], ids alike
    """

    keys: str
    values: str
    ordinals: Tensor
    ids: Tensor | None = None
    rope: Rope | None = None


def packed(
    header: Mapping[str, Any], parts: Mapping[str, Tensor], raws: Sequence[Raw], level: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, parts) of the same file, written as streams.

    level   a name of `stream.LEVELS`; below the last, raw keys and values come back near what they were

    Raises   UnknownName; InputError where numbers are not finite and the level is not lossless
    """
    from keyvalise.store import stream

    stream.find(level)
    fit = [raw for raw in raws if _fits(raw, parts)]
    pairs = [[raw.keys, raw.values, list(parts[raw.keys].shape[:-2])] for raw in fit]
    inside = {name for pair in pairs for name in pair[:2]}
    rest = {name: tensor for name, tensor in parts.items() if name not in inside}
    plain = {name: tensor for name, tensor in rest.items() if stream.holds(tensor)}
    made = {name: tensor for name, tensor in rest.items() if name not in plain}
    made[ARRAYS] = _octets(stream.write_arrays(plain))
    if fit:
        made[SHEETS] = _octets(stream.write([_sheet(raw, parts) for raw in fit], level))
    return {**header, "streams": {"level": level, SHEETS: pairs, ARRAYS: sorted(plain)}}, made


def _fits(raw: Raw, parts: Mapping[str, Tensor]) -> bool:
    """Whether both parts are there, hold something, and are of a kind that a sheet takes."""
    if raw.keys not in parts or raw.values not in parts:
        return False
    keys, values = parts[raw.keys], parts[raw.values]
    return keys.numel() > 0 and values.numel() > 0 and keys.dtype == values.dtype in NUMBERS


def _sheet(raw: Raw, parts: Mapping[str, Tensor]) -> Sheet:
    from keyvalise.store.stream import Sheet

    keys, values = (parts[name].reshape(-1, *parts[name].shape[-2:]) for name in (raw.keys, raw.values))
    return Sheet(keys, values, raw.ordinals, raw.ids, raw.rope)


def _octets(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


class Streamed(Stored):
    """A file read as if the parts in its streams stood there themselves; a stream is decoded whole."""

    def __init__(self, stored: Stored):
        vars(self).update(vars(stored))
        self.told = self.header["streams"]
        self.found: dict[str, Tensor] = {}

    @property
    def names(self) -> list[str]:
        own = [name for name in self.places if name not in (SHEETS, ARRAYS)]
        pairs = [name for pair in self.told[SHEETS] for name in pair[:2]]
        return [*pairs, *self.told[ARRAYS], *own]

    def read(self, name: str) -> Tensor:
        if name in self.places:
            return super().read(name)
        if name not in self.found:
            self.found |= self._decoded(name)
        if name not in self.found:
            raise Damaged(f"{self.what} has no part {name!r}, which its header names")
        return self.found.pop(name)

    def _decoded(self, name: str) -> dict[str, Tensor]:
        """All parts of the stream that holds one."""
        from keyvalise.store import stream

        is_raw = any(name in pair[:2] for pair in self.told[SHEETS])
        data = super().read(SHEETS if is_raw else ARRAYS).numpy().tobytes()
        try:
            return self._raw(stream.read(data)) if is_raw else stream.read_arrays(data)
        except DamagedStream as flaw:
            raise Damaged(f"{self.what} is damaged: {flaw}") from None

    def _raw(self, sheets: Sequence[Sheet]) -> dict[str, Tensor]:
        found = {}
        for (keys, values, lead), sheet in zip(self.told[SHEETS], sheets, strict=True):
            for name, tensor in ((keys, sheet.keys), (values, sheet.values)):
                found[name] = tensor.reshape(*lead, *tensor.shape[1:])
        return found


def opened(source: Bytes | Source, what: str = "the cache file") -> Stored:
    """A file's bytes, or where they are read from, as what can be read from them."""
    stored = file.opened(source, what)
    return Streamed(stored) if "streams" in stored.header else stored
