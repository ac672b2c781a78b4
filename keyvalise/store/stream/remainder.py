"""What the finest rung of a chunk lost, bit for bit.

written entries   predicted by their codes, deviation per channel
repeated keys     predicted by the exact keys of the entry they repeat, turned to their own position; what
                  is left is rounding, so the deviation follows the length of the turned pair
repeated values   repeat exactly
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyvalise.ops import exact, floats, repeats, steady
from keyvalise.ops.fast import exact as fast
from keyvalise.store.stream import short
from keyvalise.store.stream.part import Kind
from keyvalise.store.stream.sheet import Sheet
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream
from keyvalise.types.geometry import Rope

Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

FORMS = {torch.bfloat16: floats.BFLOAT16, torch.float16: floats.FLOAT16, torch.float32: floats.FLOAT32}


def words(x: Tensor) -> floats.Words:
    """The bits of keys or values [H, n, D] as rows [n, H·D]."""
    form = FORMS[x.dtype]
    flat = x.transpose(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2]).contiguous()
    return flat.view(torch.int32 if x.dtype is torch.float32 else torch.int16).numpy().view(form.dtype)


def tensor(bits: floats.Words, like: Tensor) -> Tensor:
    """Rows of bits [n, H·D] as keys or values [H, n, D]."""
    signed = torch.from_numpy(bits.view(np.int32 if like.dtype is torch.float32 else np.int16).copy())
    flat = signed.view(like.dtype).view(len(bits), like.shape[0], like.shape[2])
    return flat.transpose(0, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Run:
    """Which entries: those of a span [first, end) of a sheet like this one, and what each of them repeats."""

    like: Sheet
    span: tuple[int, int]
    source: Whole
    kind: Kind

    @property
    def written(self) -> npt.NDArray[np.bool_]:
        """Entries that repeat nothing."""
        found: npt.NDArray[np.bool_] = self.source == np.arange(len(self.source))
        return found

    @property
    def places(self) -> Whole:
        """RoPE positions [H or 1, n]."""
        return self.like.positions[:, slice(*self.span)].numpy().astype(np.int64)

    @property
    def repeats_keys(self) -> bool:
        """Whether there are keys that only rounding tells from others."""
        return self.kind == "keys" and not self.written.all()


def write(bits: floats.Words, near: Singles, run: Run) -> bytes:
    """The remainder of a run.

    Shapes   bits [n, C], near [written, C]: unturned predictions
    """
    out = Writer()
    form, written = FORMS[run.like.keys.dtype], run.written
    p, x = _turned(near, run), _numbers(bits, run.like)
    errors = np.where(np.isfinite(x[written]), x[written] - p, 0)
    deviations = np.array([exact.deviation(column) for column in errors.T], np.int64)
    short.write(out, [np.diff(deviations, prepend=0)])
    _put(out, exact.pack(bits[written].ravel(), p.ravel(), _spread(deviations, written.sum()), form))
    if run.repeats_keys:
        again, radius = _repeated(x, run)
        errors = np.ldexp(np.where(np.isfinite(x[~written]), x[~written] - again, 0), -radius)
        common = exact.deviation(errors)
        out.number(common - exact.LEAST)
        s = np.clip(exact.QUARTERS * radius + common, exact.LEAST, exact.MOST).astype(np.int32)
        _put(out, exact.pack(bits[~written].ravel(), again.ravel(), s.ravel(), form))
    return bytes(out.data)


def read(data: bytes, near: Singles, run: Run) -> floats.Words:
    """The bits [n, C] again.

    Raises   ValueError where the bytes hold no such remainder, mostly DamagedStream
    """
    reader, form = Reader(data), FORMS[run.like.keys.dtype]
    written, p = run.written, _turned(near, run)
    (steps,) = short.read(reader, [p.shape[1]])
    deviations = steps.astype(np.int64).cumsum()
    if (deviations < exact.LEAST).any() or (deviations > exact.MOST).any():
        raise DamagedStream("a deviation of the stream is impossible")
    bits = np.empty((len(written), p.shape[1]), form.dtype)
    found = fast.unpack(_get(reader), p.ravel(), _spread(deviations, written.sum()), form)
    bits[written] = found.reshape(p.shape)
    bits = bits[run.source]
    if run.repeats_keys:
        again, radius = _repeated(_numbers(bits, run.like), run)
        common = reader.number(exact.MOST - exact.LEAST) + exact.LEAST
        s = np.clip(exact.QUARTERS * radius + common, exact.LEAST, exact.MOST).astype(np.int32)
        found = fast.unpack(_get(reader), again.ravel(), s.ravel(), form)
        bits[~written] = found.reshape(again.shape)
    reader.finish()
    return bits


def _repeated(x: Singles, run: Run) -> tuple[Singles, npt.NDArray[np.int32]]:
    """Keys of repeated entries as their leaders say them, and the exponent of every pair's length."""
    leaders = run.source[~run.written]
    x = np.where(np.isfinite(x), x, 0)
    rope, heads = run.like.rope, run.like.keys.shape[0]
    if rope is None:
        again = x[leaders]
        return again, np.frexp(again)[1].astype(np.int32)
    phase = _phase(run.places, rope)
    again = _rotated(x[leaders], heads, phase[~run.written] - phase[leaders], rope)
    lengths = repeats.radii(again, heads, rope.width, rope.is_interleaved)
    return again, np.frexp(lengths)[1].astype(np.int32)


def _turned(near: Singles, run: Run) -> Singles:
    """Predictions as they are stored."""
    rope, heads = run.like.rope, run.like.keys.shape[0]
    if run.kind == "values" or rope is None:
        return near
    turned = _rotated(near, heads, _phase(run.places[:, run.written], rope), rope)
    if rope.scaling != 1.0:
        turned.reshape(len(near), heads, near.shape[1] // heads)[..., : rope.width] *= np.float32(
            rope.scaling
        )
    return turned


def _phase(places: Whole, rope: Rope) -> npt.NDArray[np.float64]:
    """Angles of places [H or 1, n]: [n, H or 1, width/2], rounded to float32 as a model rounds them."""
    phase: npt.NDArray[np.float64] = places.T.astype(np.float32)[..., None] * rope.frequencies.numpy()
    return phase.astype(np.float64)


def _rotated(x: Singles, heads: int, phase: npt.NDArray[np.float64], rope: Rope) -> Singles:
    """Rows [n, H·D] turned by angles."""
    split = x.reshape(len(x), heads, x.shape[1] // heads)
    return steady.rotate(split, phase, rope.width, rope.is_interleaved).reshape(x.shape)


def _numbers(bits: floats.Words, like: Sheet) -> Singles:
    signed = torch.from_numpy(bits.view(np.int32 if bits.dtype.itemsize == 4 else np.int16))
    return signed.view(like.keys.dtype).float().numpy()


def _spread(deviations: Whole, n: int) -> npt.NDArray[np.int32]:
    return np.tile(deviations.astype(np.int32), int(n))


def _runs(packed: exact.Packed) -> Iterator[bytes]:
    yield from (packed.message, packed.escapes, packed.gaps, packed.fields, packed.low, packed.listed)


def _put(out: Writer, packed: exact.Packed) -> None:
    out.number(packed.family)
    out.number(packed.n_gaps)
    for run in _runs(packed):
        out.blob(run)


def _get(reader: Reader) -> exact.Packed:
    return exact.Packed(reader.number(2), reader.number(), *(reader.blob() for _ in range(6)))
