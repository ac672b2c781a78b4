"""Sheets from the frames of a stream, as fine as they have come or as was asked for.

Knows not   where the bytes come from; a beginning of a progressive stream is a stream.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from keyvalise.store.stream import frame
from keyvalise.store.stream.decode import Decoder
from keyvalise.store.stream.part import KINDS
from keyvalise.store.stream.sheet import Sheet

MOST_BYTES = 2**34
"""Of keys and values that a reader makes room for unless told otherwise."""


def read(data: bytes, upto: str | None = None, *, most_bytes: int = MOST_BYTES) -> list[Sheet]:
    """The sheets of a stream, at its finest level or at most at `upto`.

    Raises   DamagedStream for bytes that are no whole stream; UnknownName for a level that does not exist
    """
    decoder = Decoder(upto, most_bytes)
    for one in frame.parse(data):
        decoder.add(one)
    return [sheet(decoder, layer) for layer in range(decoder.n_layers)]


def sheet(decoder: Decoder, layer: int) -> Sheet:
    """One layer, all of its chunks."""
    chunks = [decoder.chunk(layer, chunk) for chunk in range(decoder.header.n_chunks(layer))]
    keys, values = (_joined([chunk[kind] for chunk in chunks]) for kind in KINDS)
    return replace(decoder.header.sheet(layer), keys=keys, values=values)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
