"""A row's sheets as frames, any of them when it is asked for: what a sender holds.

Flows in    sheets
Flows out   frames: what all chunks of a layer share, which entries repeat, codes of a rung
Knows not   which of them are sent, nor in which order
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from keyvalise.ops import ladder, principal, repeats
from keyvalise.ops.echo import Echo
from keyvalise.ops.fast import echo
from keyvalise.ops.fast import ladder as fast_ladder
from keyvalise.store.stream import codes, header, inferred, levels, part, plain, remainder, rows, side
from keyvalise.store.stream.frame import Frame, Tag
from keyvalise.store.stream.header import Header
from keyvalise.store.stream.part import KINDS, Kind
from keyvalise.store.stream.sheet import Sheet
from keyvalise.store.stream.wire import Writer
from keyvalise.types.errors import InputError

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

CHUNK = 2048
"""Entries of a chunk: longer ones hardly shrink any more, and a reader should not wait for one."""

_CHOSEN_FOR = 1 / 3
"""The bin for which blocks are chosen, of a head's root mean square; fixed, so that levels share them."""


Order = tuple[Whole, Whole]


@dataclass(frozen=True, eq=False)
class Part:
    """Keys or values of one layer: components [R, N] in the order of all, and which are worth a rung."""

    shared: side.Side
    components: npt.NDArray[np.float32]
    source: Whole
    worth: side.Ranks
    width: float

    def step(self, rung: int) -> float:
        """The bin of a rung."""
        return self.width / float(ladder.FACTOR**rung)

    def ranks(self, rung: int) -> tuple[int, ...]:
        """Components of every block that a rung writes."""
        return self.worth(self.step(rung))

    @cached_property
    def finest(self) -> Codes:
        """The codes of the last rung, of which all others are parts."""
        return ladder.quantize(self.components, self.step(levels.LAST))

    @cached_property
    def places(self) -> Whole:
        """Where the component of a block and a rank stands among `components`."""
        blocks, ranks = side.order((0,) * len(self.shared.blocks), self.shared.ranks)
        places = np.zeros((len(self.shared.blocks), self.shared.width), np.int64)
        places[blocks, ranks] = np.arange(len(blocks))
        return places

    def at(self, rung: int, order: Order, entries: Whole) -> tuple[Codes, tuple[int, int]]:
        """Codes and centres of some components of some entries at a rung."""
        own = self.places[order] if self.shared.blocks else np.arange(len(self.components))
        grid = np.ix_(own, entries)
        found = ladder.coarsen(self.finest[grid], levels.LAST - rung)
        return found, ladder.centres(found, self.components[grid], self.step(rung))


@dataclass(frozen=True, eq=False)
class Held:
    """What a reader has of a chunk at a rung, and the frame that brought it there."""

    coded: codes.Coded
    order: Order
    frame: Frame


class Encoded:
    """Everything that can be sent of a row's sheets."""

    def __init__(self, sheets: Sequence[Sheet], chunk: int = CHUNK):
        if not sheets or chunk < 1:
            raise InputError("a stream needs at least one sheet and chunks of at least one entry")
        self.sheets = [sheet.check().cpu() for sheet in sheets]
        self.header: Header = header.of(self.sheets, chunk, inferred.ids(self.sheets))
        self.parts = [
            {kind: _part(sheet, kind, width) for kind, width in zip(KINDS, widths, strict=True)}
            for sheet, widths in zip(self.sheets, self.header.widths, strict=True)
        ]
        self._held: dict[tuple[int, int, Kind, int, int], Held] = {}

    @cached_property
    def is_finite(self) -> bool:
        """Whether a lossy level can hold all numbers."""
        return all(bool(torch.isfinite(x).all()) for sheet in self.sheets for x in (sheet.keys, sheet.values))

    def check(self, wanted: Iterable[levels.Level]) -> None:
        """Every level can hold all numbers.

        Raises   InputError
        """
        if not self.is_finite and not all(level.is_exact for level in wanted):
            raise InputError("keys or values are not finite; only `lossless` by itself can hold them")

    def plain(self) -> Iterator[Frame]:
        """The arrays that the header names."""
        for i, array in enumerate(self.header.arrays):
            out = Writer()
            plain.write(out, array)
            yield Frame(Tag.PLAIN, bytes(out.data), i)

    def sides(self, kind: Kind, rung: int, known: int | None) -> Iterator[Frame]:
        """What all chunks share up to a rung, beyond what is known at another."""
        for layer, parts in enumerate(self.parts):
            own = parts[kind]
            begun = None if known is None else own.ranks(known)
            payload = side.write(own.shared, begun, own.ranks(rung))
            yield Frame(Tag.SIDE, payload, layer, 0, KINDS.index(kind), rung)

    def rows(self, layer: int, chunk: int) -> Frame:
        """Which entries of a chunk repeat."""
        sources = [self._source(layer, chunk, kind) for kind in KINDS]
        return Frame(Tag.ROWS, rows.write(sources, groups(self.header, layer, chunk)), layer, chunk)

    def codes(self, layer: int, chunk: int, kind: Kind, rung: int, start: int) -> Held:
        """A chunk at a rung of the chain that begins at `start`, with the frame that leads there."""
        name = (layer, chunk, kind, rung, start)
        if name not in self._held:
            parent = None if rung <= start else self.codes(layer, chunk, kind, rung - 1, start)
            self._held[name] = self._coded(layer, chunk, kind, rung, parent)
        return self._held[name]

    def _coded(self, layer: int, chunk: int, kind: Kind, rung: int, parent: Held | None) -> Held:
        own = self.parts[layer][kind]
        ranks = own.ranks(rung)
        known = (0,) * len(ranks) if parent is None else own.ranks(rung - 1)
        order = side.order(known, ranks)
        if parent is not None:
            order = side.joined(parent.order, order)
        found, centre = own.at(rung, order, self.entries(layer, chunk, kind))
        out = Writer()
        for rank in ranks:
            out.number(rank)
        held = codes.write(
            out, found, centre, None if parent is None else parent.coded, self._echo(layer, chunk, kind)
        )
        return Held(held, order, Frame(Tag.CODES, bytes(out.data), layer, chunk, KINDS.index(kind), rung))

    def remainder(self, layer: int, chunk: int, kind: Kind, held: Held) -> Frame:
        """What a rung of a chunk lost, bit for bit."""
        own, sheet, span = self.parts[layer][kind], self.sheets[layer], self.header.span(layer, chunk)
        source = self._source(layer, chunk, kind)
        x = (sheet.keys if kind == "keys" else sheet.values)[:, slice(*span)]
        near = nearest(own.shared, held.coded, held.order, own.step(held.frame.rung))
        payload = remainder.write(remainder.words(x), near, remainder.Run(sheet, span, source, kind))
        return Frame(Tag.EXACT, payload, layer, chunk, KINDS.index(kind), held.frame.rung)

    def entries(self, layer: int, chunk: int, kind: Kind) -> Whole:
        """The entries of a chunk that are written."""
        first, end = self.header.span(layer, chunk)
        return first + np.flatnonzero(self._source(layer, chunk, kind) == np.arange(end - first))

    def _echo(self, layer: int, chunk: int, kind: Kind) -> Echo | None:
        return echo_of(groups(self.header, layer, chunk), self._source(layer, chunk, kind))

    def _source(self, layer: int, chunk: int, kind: Kind) -> Whole:
        first, end = self.header.span(layer, chunk)
        return rows.within(self.parts[layer][kind].source[first:end])


def echo_of(known: Whole | None, source: Whole) -> Echo | None:
    """Which written entries foretell which, by groups of equal ids."""
    return None if known is None else echo.find(known).among(source)


def nearest(own: side.Side, held: codes.Coded, order: Order, step: float) -> npt.NDArray[np.float32]:
    """Unturned rows [n, C] as their codes say them, the same bits on every machine."""
    return own.backward(fast_ladder.restore(held.codes, step, held.centre), order, is_steady=True) + own.mean


def groups(head: Header, layer: int, chunk: int) -> Whole | None:
    """For every entry of a chunk the first with the same ids; None where no ids are known."""
    index = head.layers[layer]["ids"]
    if index is None:
        return None
    first, end = head.span(layer, chunk)
    ids = np.atleast_2d(head.arrays[index])
    return repeats.groups(ids[:, first:end].T)


def _part(sheet: Sheet, kind: Kind, width: float) -> Part:
    x = part.matrix(sheet, kind)
    x = np.where(np.isfinite(x), x, np.float32(0))
    source = part.sources(sheet, kind, x)
    written = x[source == np.arange(len(x))]
    least = principal.ACTIVE * width / ladder.FACTOR**levels.LAST
    found = side.fit(written, len(sheet.keys), _CHOSEN_FOR, least)
    components = found.forward(x)
    loud = found.forward(written).astype(np.float64).std(1) if len(written) else np.zeros(len(components))
    return Part(found, components, source, side.worth(found, loud), width)
