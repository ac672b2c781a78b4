"""What has come of a stream, frame by frame, and the tensors of every chunk that is there.

Flows in    frames, each proven whole
Flows out   keys and values of a chunk, at the rung that has come
Raises      DamagedStream for frames that do not follow from those before
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyvalise.ops.echo import Echo
from keyvalise.ops.fast import ladder, turned
from keyvalise.store.stream import coded, codes, damage, header, levels, part, plain, remainder, rows, side
from keyvalise.store.stream.coded import Order
from keyvalise.store.stream.frame import Frame, Tag
from keyvalise.store.stream.header import Header
from keyvalise.store.stream.part import KINDS, Kind
from keyvalise.store.stream.sheet import DTYPES, Sheet
from keyvalise.store.stream.wire import Reader
from keyvalise.types.errors import DamagedStream

Whole = npt.NDArray[np.int64]
Angles = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass
class Piece:
    """What has come of one chunk of one layer."""

    sources: dict[Kind, Whole]
    coded: dict[Kind, codes.Coded] = field(default_factory=dict)
    order: dict[Kind, Order] = field(default_factory=dict)
    ranks: dict[Kind, tuple[int, ...]] = field(default_factory=dict)
    rungs: dict[Kind, int] = field(default_factory=dict)
    exact: dict[Kind, bytes] = field(default_factory=dict)


class Decoder:
    """A stream while it comes."""

    def __init__(self, upto: str | None = None, most_bytes: int = 2**34):
        self.upto, self.most_bytes = upto, most_bytes
        self.sides: dict[tuple[int, Kind], side.Side] = {}
        self.pieces: dict[tuple[int, int], Piece] = {}
        self._header: Header | None = None
        self._awaited: list[tuple[np.dtype[np.generic], tuple[int, ...]]] = []
        self._arrays: list[npt.NDArray[np.generic]] = []
        self._sheets: dict[int, Sheet] = {}
        self._known: dict[tuple[object, ...], Whole | None] = {}
        self._echoes: dict[tuple[object, ...], Echo | None] = {}
        self._turns: dict[tuple[object, ...], Angles | None] = {}

    @property
    def header(self) -> Header:
        if self._header is None or len(self._arrays) < len(self._awaited):
            raise DamagedStream("the stream ends before its header does")
        return self._header

    @property
    def n_layers(self) -> int:
        return len(self.header.layers)

    def add(self, one: Frame) -> None:
        """Take the next frame."""
        with damage.of_frame():
            self._take(one)

    def _take(self, one: Frame) -> None:
        take = {
            Tag.HEADER: self._begin,
            Tag.PLAIN: self._add_array,
            Tag.SIDE: self._add_side,
            Tag.ROWS: self._add_rows,
            Tag.CODES: self._add_codes,
            Tag.EXACT: self._add_exact,
        }
        take[one.tag](one)

    def has(self, layer: int, chunk: int) -> bool:
        """Whether keys and values of a chunk have come at some rung."""
        piece = self.pieces.get((layer, chunk))
        return piece is not None and len(piece.coded) == len(KINDS)

    def chunk(self, layer: int, chunk: int) -> dict[Kind, Tensor]:
        """Keys [H, n, D] and values [H, n, Dv] of a chunk."""
        if not self.has(layer, chunk):
            raise DamagedStream(f"chunk {chunk} of layer {layer} is missing in the stream")
        piece, like = self.pieces[layer, chunk], self._sheet(layer)
        with damage.of_frame(), np.errstate(all="ignore"):
            return {kind: self._tensor(layer, chunk, piece, like, kind) for kind in KINDS}

    def _tensor(self, layer: int, chunk: int, piece: Piece, like: Sheet, kind: Kind) -> Tensor:
        held, order, source = piece.coded[kind], piece.order[kind], piece.sources[kind]
        own, span = self.sides[layer, kind], self.header.span(layer, chunk)
        step = self.header.step(layer, kind, piece.rungs[kind])
        whole = like.keys if kind == "keys" else like.values
        if kind in piece.exact:
            near = coded.nearest(own, held, order, step)
            bits = remainder.read(piece.exact[kind], near, remainder.Run(like, span, source, kind))
            return remainder.tensor(bits, whole)
        x = own.backward(ladder.restore(held.codes, step, held.centre), order)
        rows = (np.cumsum(source == np.arange(len(source))) - 1)[source]
        is_interleaved = like.rope is not None and like.rope.is_interleaved
        turn = self._angles(layer, span) if kind == "keys" else None
        out = turned.lay_out(x, rows, own.mean, len(whole), angles=turn, is_interleaved=is_interleaved)
        return torch.from_numpy(out).to(whole.dtype)

    def _angles(self, layer: int, span: tuple[int, int]) -> Angles | None:
        """Cosines and sines of a chunk; most layers share them."""
        spec = self.header.layers[layer]
        name = (str(spec["rope"]), spec["ordinals"], spec["offset"], *span)
        if name not in self._turns:
            self._turns[name] = part.angles(self._sheet(layer), span)
        return self._turns[name]

    def _sheet(self, layer: int) -> Sheet:
        if layer not in self._sheets:
            self._sheets[layer] = self.header.sheet(layer)
        return self._sheets[layer]

    def _begin(self, one: Frame) -> None:
        self._header, self._awaited = header.parse(one.payload)
        size = 0
        for spec in self._header.layers:
            entry = spec["heads"] * (spec["dim"] + spec["value_dim"])
            size += spec["n"] * entry * DTYPES[spec["dtype"]].itemsize
        size += sum(int(np.prod(shape, dtype=object)) * kind.itemsize for kind, shape in self._awaited)
        damage.check_room(size, self.most_bytes)
        if self.upto is not None:
            self._header.level(self.upto)

    def _add_array(self, one: Frame) -> None:
        if one.layer != len(self._arrays) or one.layer >= len(self._awaited) or self._header is None:
            raise DamagedStream("an array of the stream is not where its header says")
        kind, shape = self._awaited[one.layer]
        source = Reader(one.payload)
        self._arrays.append(plain.read(source, shape, kind))
        source.finish()
        self._header = header.complete(self._header, self._arrays)

    def _kind(self, one: Frame) -> Kind | None:
        """Keys or values, or None where the frame is finer than was asked for."""
        if one.layer >= self.n_layers or one.kind >= len(KINDS) or one.rung > levels.LAST:
            raise DamagedStream("a frame of the stream belongs to nothing that its header knows")
        kind = KINDS[one.kind]
        is_finer = self.upto is not None and one.rung > self.header.level(self.upto).rung(kind)
        return None if is_finer else kind

    def _add_side(self, one: Frame) -> None:
        if (kind := self._kind(one)) is None:
            return
        spec = self.header.layers[one.layer]
        dim = spec["heads"] * spec["dim" if kind == "keys" else "value_dim"]
        place = (one.layer, kind)
        self.sides[place] = side.read(one.payload, self.sides.get(place), dim, spec["heads"])

    def _add_rows(self, one: Frame) -> None:
        place = (one.layer, one.chunk)
        if one.layer >= self.n_layers or one.chunk >= self.header.n_chunks(one.layer) or place in self.pieces:
            raise DamagedStream("a chunk of the stream comes twice or belongs to nothing")
        first, end = self.header.span(*place)
        known = self._groups(*place)
        self.pieces[place] = Piece(dict(zip(KINDS, rows.read(one.payload, end - first, known), strict=True)))

    def _groups(self, layer: int, chunk: int) -> Whole | None:
        """Entries of equal ids; layers that share ids share them."""
        name = (self.header.layers[layer]["ids"], *self.header.span(layer, chunk))
        if name not in self._known:
            self._known[name] = coded.groups(self.header, layer, chunk)
        return self._known[name]

    def _add_codes(self, one: Frame) -> None:
        if (kind := self._kind(one)) is None:
            return
        piece = self.pieces.get((one.layer, one.chunk))
        own = self.sides.get((one.layer, kind))
        if piece is None or own is None:
            raise DamagedStream("codes of the stream come before what they build on")
        held = piece.coded.get(kind)
        if held is not None and one.rung != piece.rungs[kind] + 1:
            raise DamagedStream(f"rung {one.rung} of the stream cannot follow rung {piece.rungs[kind]}")
        source = Reader(one.payload)
        ranks = tuple(source.number(block.rank) for block in own.blocks)
        known = piece.ranks.get(kind, (0,) * len(ranks))
        if any(new < old for new, old in zip(ranks, known, strict=True)):
            raise DamagedStream("a finer rung of the stream has fewer components than the one before")
        order = side.order(known, ranks)
        order = order if held is None else side.joined(piece.order[kind], order)
        n = int((piece.sources[kind] == np.arange(len(piece.sources[kind]))).sum())
        piece.coded[kind] = codes.read(
            source, n, len(order[0]) if own.blocks else own.dim, held, self._echo(one, kind)
        )
        source.finish()
        piece.order[kind], piece.ranks[kind], piece.rungs[kind] = order, ranks, one.rung

    def _echo(self, one: Frame, kind: Kind) -> Echo | None:
        """Which entries foretell which; layers and kinds that repeat alike share it."""
        known, source = self._groups(one.layer, one.chunk), self.pieces[one.layer, one.chunk].sources[kind]
        spec = self.header.layers[one.layer]
        name = (spec["ids"], *self.header.span(one.layer, one.chunk), source.tobytes())
        if name not in self._echoes:
            self._echoes[name] = coded.echo_of(known, source)
        return self._echoes[name]

    def _add_exact(self, one: Frame) -> None:
        kind = self._kind(one)
        if kind is None or (self.upto is not None and not self.header.level(self.upto).is_exact):
            return
        piece = self.pieces.get((one.layer, one.chunk))
        if piece is None or piece.rungs.get(kind) != one.rung or kind in piece.exact:
            raise DamagedStream("the last part of the stream does not follow from the parts before")
        piece.exact[kind] = one.payload
