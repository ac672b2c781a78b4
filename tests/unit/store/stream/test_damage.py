"""Bytes that are no whole stream: one typed error, never another, never silence, no more room than asked."""

from __future__ import annotations

import dataclasses
import json
import random
import tracemalloc
import zlib

import pytest
import torch

from keyvalise.store import stream
from keyvalise.store.stream import frame, header
from keyvalise.store.stream.frame import Frame, Tag
from keyvalise.types.errors import DamagedStream, InputError
from tests.unit.store.stream.sheets import half, make, same_sheets

MUTATIONS = 60
"""Of each kind, for each of three streams."""


def row() -> list[stream.Sheet]:
    return [make(2, 63, 8, repeats=seed == 0, turn=half(8), seed=seed) for seed in range(2)]


@pytest.fixture(scope="module", params=["medium", "lossless", "progressive"])
def data(request: pytest.FixtureRequest) -> bytes:
    if request.param == "progressive":
        return stream.write(row(), "lossless", is_progressive=True, chunk=40)
    return stream.write(row(), request.param, chunk=40)


def sealed(frames: list[Frame]) -> bytes:
    """A stream of frames that prove whole, whatever they hold."""
    begin, key = frame.begin(frames[0].payload)
    return begin + b"".join(one.seal(key) for one in frames[1:])


def test_any_changed_byte_is_noticed(data: bytes) -> None:
    rng = random.Random(0)
    for _ in range(MUTATIONS):
        at = rng.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]
        with pytest.raises(DamagedStream):
            stream.read(changed)


def test_any_cut_is_noticed(data: bytes) -> None:
    rng = random.Random(1)
    whole = stream.read(data)
    ends = {len(data) - sum(len(one) for one in parts) for parts in _tails(data)}
    for end in [0, 1, 4, *(rng.randrange(len(data)) for _ in range(MUTATIONS // 3))]:
        if end not in ends:
            with pytest.raises(DamagedStream):
                stream.read(data[:end])
    for end in sorted(ends - {len(data)}):
        try:
            found = stream.read(data[:end])
        except DamagedStream:
            continue
        # A stream that ends between two frames may be a coarser one, never a wrong or shorter one.
        assert [sheet.n for sheet in found] == [sheet.n for sheet in whole]


def _tails(data: bytes) -> list[list[bytes]]:
    """The last frames of a stream, as bytes, one more each time."""
    frames = list(frame.parse(data))
    _, key = frame.begin(frames[0].payload)
    pieces = [one.seal(key) for one in frames[1:]]
    return [pieces[i:] for i in range(len(pieces) + 1)]


def test_frames_of_another_stream_are_no_part_of_this_one(data: bytes) -> None:
    other = stream.write([make(2, 62, 8), make(2, 62, 8)], "medium", chunk=40)
    tail = _tails(other)[-2][0]
    with pytest.raises(DamagedStream, match="was changed"):
        stream.read(data + tail)


def test_frames_in_another_order_are_noticed(data: bytes) -> None:
    frames = list(frame.parse(data))
    whole = stream.read(data)
    rng = random.Random(2)
    for _ in range(MUTATIONS // 10):
        one, two = rng.randrange(1, len(frames)), rng.randrange(1, len(frames))
        moved = list(frames)
        moved[one], moved[two] = moved[two], moved[one]
        _read_or_refuse(sealed(moved), whole)
        _read_or_refuse(sealed([*frames, frames[one]]), whole)
        _read_or_refuse(sealed(frames[:one] + frames[one + 1 :]), whole)


def test_payloads_that_prove_whole_but_make_no_sense_are_refused_or_read(data: bytes) -> None:
    """Whoever makes a stream can seal it; what such a stream leads to is still a tensor or the one error."""
    frames = list(frame.parse(data))
    whole = stream.read(data)
    rng = random.Random(3)
    n_refused = 0
    for _ in range(MUTATIONS):
        i = rng.randrange(1, len(frames))
        payload = bytearray(frames[i].payload)
        if not payload:
            continue
        for _ in range(rng.randrange(1, 4)):
            payload[rng.randrange(len(payload))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            payload = payload[: rng.randrange(len(payload))]
        changed = [*frames[:i], dataclasses.replace(frames[i], payload=bytes(payload)), *frames[i + 1 :]]
        n_refused += _read_or_refuse(sealed(changed), whole)
    assert n_refused > MUTATIONS / 2


def test_places_that_prove_whole_but_make_no_sense_are_refused(data: bytes) -> None:
    frames = list(frame.parse(data))
    whole = stream.read(data)
    rng = random.Random(5)
    for _ in range(MUTATIONS // 2):
        i, name = rng.randrange(1, len(frames)), rng.choice(("layer", "chunk", "kind", "rung"))
        changed = dataclasses.replace(frames[i], **{name: rng.choice((1, 3, 99))})
        _read_or_refuse(sealed([*frames[:i], changed, *frames[i + 1 :]]), whole)


def _read_or_refuse(data: bytes, whole: list[stream.Sheet]) -> bool:
    """Whether it was refused; what is read has the shapes of the whole."""
    try:
        found = stream.read(data)
    except DamagedStream:
        return True
    assert [sheet.keys.shape for sheet in found] == [sheet.keys.shape for sheet in whole]
    return False


HEADERS = [
    {"version": 2},
    {"version": "1"},
    {"chunk": 0},
    {"chunk": 1.5},
    {"widths": [[1, 1]]},
    {"widths": [[1, 0], [1, 1]]},
    {"widths": [[1, "x"], [1, 1]]},
    {"levels": [[1]]},
    {"layers": 7},
    {"arrays": [["<f8", [3]]]},
    {"arrays": [["<i4", [-3]]]},
]


@pytest.mark.parametrize("change", HEADERS, ids=str)
def test_headers_that_make_no_sense_are_refused(data: bytes, change: dict[str, object]) -> None:
    frames = list(frame.parse(data))
    parts = json.loads(zlib.decompress(frames[0].payload)) | change
    frames[0] = dataclasses.replace(frames[0], payload=zlib.compress(json.dumps(parts).encode()))
    with pytest.raises(DamagedStream):
        stream.read(sealed(frames))


@pytest.mark.parametrize(
    "name", ["heads", "n", "dim", "value_dim", "dtype", "ordinals", "ids", "offset", "rope"]
)
@pytest.mark.parametrize("value", [-1, 2**24, 2**40, "x", [1], {"frequencies": 9}, 1.5])
def test_layers_that_make_no_sense_are_refused(data: bytes, name: str, value: object) -> None:
    frames = list(frame.parse(data))
    parts = json.loads(zlib.decompress(frames[0].payload))
    parts["layers"][1][name] = value
    frames[0] = dataclasses.replace(frames[0], payload=zlib.compress(json.dumps(parts).encode()))
    if name == "offset" and value in (-1, 2**24):
        # Keys turned to another place are keys; only what follows bit for bit notices.
        _read_or_refuse(sealed(frames), row())
        return
    with pytest.raises(DamagedStream):
        stream.read(sealed(frames))


@pytest.mark.parametrize(
    "payload", [b"", b"x", zlib.compress(b"["), zlib.compress(b"[" * 10**5), zlib.compress(b"{}")]
)
def test_what_is_no_header_is_refused(payload: bytes) -> None:
    with pytest.raises(DamagedStream):
        stream.read(sealed([Frame(Tag.HEADER, payload)]))


def test_no_more_room_is_made_than_allowed(data: bytes) -> None:
    with pytest.raises(DamagedStream, match="at most 1000 are read"):
        stream.read(data, most_bytes=1000)
    bomb = zlib.compress(b" " * (header._LONGEST * 4))
    tracemalloc.start()
    with pytest.raises(DamagedStream, match="does not end"):
        stream.read(sealed([Frame(Tag.HEADER, bomb)]))
    huge = frame.MAGIC + bytes([4, 0, 0, 0, 0]) + b"\xff\xff\xff\xff\x07"
    with pytest.raises(DamagedStream):
        stream.read(huge)
    assert tracemalloc.get_traced_memory()[1] < 4 * header._LONGEST
    tracemalloc.stop()


def test_the_error_is_an_input_error() -> None:
    assert issubclass(DamagedStream, InputError)
    with pytest.raises(InputError, match="first bytes are others"):
        stream.read(b"no such thing")


def test_arrays_are_proven_whole_as_well() -> None:
    tensors = {"codes": torch.randint(0, 16, (63, 7), dtype=torch.uint8), "scales": torch.randn(63, 3)}
    data = stream.write_arrays(tensors)
    rng = random.Random(4)
    for _ in range(MUTATIONS):
        at = rng.randrange(len(data))
        with pytest.raises(DamagedStream):
            stream.read_arrays(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
        with pytest.raises(DamagedStream):
            stream.read_arrays(data[:at])
    frames = list(frame.parse(data))
    for _ in range(MUTATIONS):
        payload = bytearray(frames[1].payload)
        payload[rng.randrange(len(payload))] = rng.randrange(256)
        try:
            found = stream.read_arrays(
                sealed([frames[0], dataclasses.replace(frames[1], payload=bytes(payload)), frames[2]])
            )
        except DamagedStream:
            continue
        assert found["codes"].shape == (63, 7)


def test_an_unchanged_stream_is_read(data: bytes) -> None:
    assert same_sheets(stream.read(data), stream.read(data))
