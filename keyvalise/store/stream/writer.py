"""A stream of a row's sheets at a level: which frames, in which order.

one level     header, arrays; what all chunks share; then chunk after chunk
progressive   the same at the smallest level; then, level after level, what it adds
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keyvalise.store.stream import frame, levels
from keyvalise.store.stream.coded import CHUNK, Encoded
from keyvalise.store.stream.frame import Frame
from keyvalise.store.stream.levels import Level
from keyvalise.store.stream.part import KINDS, Kind
from keyvalise.store.stream.sheet import Sheet

Rungs = dict[Kind, int]


def write(sheets: Sequence[Sheet], level: str, *, is_progressive: bool = False, chunk: int = CHUNK) -> bytes:
    """The stream of sheets, one per layer.

    level            a name of `LEVELS`;  is_progressive: every smaller level is a beginning of the stream
    chunk            entries that are decoded together
    Raises           UnknownName; InputError for sheets that no stream can hold
    """
    wanted = levels.chain(level) if is_progressive else (levels.find(level),)
    encoded = Encoded(sheets, chunk)
    encoded.check(wanted)
    begin, key = frame.begin(encoded.header.text())
    return begin + b"".join(one.seal(key) for one in frames(encoded, wanted))


def frames(encoded: Encoded, wanted: Sequence[Level]) -> Iterator[Frame]:
    """All frames behind the header."""
    yield from encoded.plain()
    start: Rungs = {kind: wanted[0].rung(kind) for kind in KINDS}
    held: Rungs = {}
    for level in wanted:
        for kind in KINDS:
            if held.get(kind, -1) < level.rung(kind):
                yield from encoded.sides(kind, level.rung(kind), held.get(kind))
        for place in places(encoded):
            yield from chunk_frames(encoded, place, level, start, held)
        held = {kind: level.rung(kind) for kind in KINDS}


def places(encoded: Encoded) -> list[tuple[int, int]]:
    """Layers and chunks, chunk by chunk."""
    n_layers = len(encoded.sheets)
    pairs = [(chunk, layer) for layer in range(n_layers) for chunk in range(encoded.header.n_chunks(layer))]
    return [(layer, chunk) for chunk, layer in sorted(pairs)]


def chunk_frames(
    encoded: Encoded, place: tuple[int, int], level: Level, start: Rungs, held: Rungs
) -> Iterator[Frame]:
    """What brings a chunk of a layer from the rungs it has to those of a level."""
    layer, chunk = place
    if not held:
        yield encoded.rows(layer, chunk)
    for kind in KINDS:
        first = held[kind] + 1 if held else start[kind]
        for rung in range(first, level.rung(kind) + 1):
            yield encoded.codes(layer, chunk, kind, rung, start[kind]).frame
        if level.is_exact:
            finest = encoded.codes(layer, chunk, kind, level.rung(kind), start[kind])
            yield encoded.remainder(layer, chunk, kind, finest)
