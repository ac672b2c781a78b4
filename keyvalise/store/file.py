"""One file of named tensors and a header, in which no bit can change unseen.

A safetensors file. Its one metadata entry holds a JSON header; the header holds a digest of every part, and
the root digest covers the beginning of the file as it stands, so that parts, names, places and header are of
one piece or are refused.

    8 bytes        length of what follows, little-endian
    beginning      {"__metadata__":{"keyvalise":"{\\"version\\":2,\\"root\\":\\"<64 digits>\\", …}"}, …parts}
    parts          one behind the other, without gaps, to the end of the file

Knows names, tensors and digests; what they mean is the business of `state.py` and the host.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from blake3 import blake3
from torch import Tensor

from keyvalise.store.source import Held, Opened, Source
from keyvalise.types.errors import CacheFileError, Damaged, FutureVersion

KEY, VERSION = "keyvalise", 2
LONGEST = 10**8
"""Most bytes of a header, as safetensors has it."""

AHEAD = 256
"""Bytes that hold a file's first words, version and root."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The format's names of dtypes."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}
BLANK = b"0" * 64
START = re.compile(
    rb'\{"__metadata__":\{"keyvalise":"\{\\"version\\":(\d{1,6}),\\"root\\":\\"([0-9a-f]{64})\\"'
)

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part stands behind the beginning of the file, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    digest: str


def digest(name: str, dtype: str, shape: Iterable[int], data: Bytes) -> str:
    """Of a part: name, dtype and shape as JSON, a line feed, its bytes; BLAKE3, 64 hexadecimal digits."""
    found = blake3(_compact([name, dtype, list(shape)]).encode() + b"\n")
    return found.update(data).hexdigest()


def root(beginning: bytes, begin: int, end: int) -> str:
    """Of a file's beginning, its length included, with zeros where the root itself stands."""
    blank = beginning[:begin] + BLANK + beginning[end:]
    return blake3(blank).hexdigest()


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, in its own order."""
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def chunks(header: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Iterator[Bytes]:
    """The bytes of a file, piece by piece; `header` holds plain JSON data."""
    strange = [name for name in parts if parts[name].dtype not in NAMES]
    if strange:
        raise CacheFileError(f"{strange[0]}: a file cannot hold numbers of {parts[strange[0]].dtype}")
    order = sorted(parts, key=lambda name: (-parts[name].element_size(), name))
    places: dict[str, Any] = {}
    digests: dict[str, str] = {}
    at = 0
    for name in order:
        tensor, data = parts[name], raw(parts[name])
        dtype, shape = NAMES[tensor.dtype], list(tensor.shape)
        places[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        digests[name] = digest(name, dtype, shape, data)
        at += len(data)
    begun = {"version": VERSION, "root": BLANK.decode()}
    inner = _compact({**begun, **header, **begun, "digests": digests})
    text = _compact({"__metadata__": {KEY: inner}, **places}).encode()
    text += b" " * (-len(text) % 8)
    beginning = len(text).to_bytes(8, "little") + text
    match = START.match(beginning, 8)
    assert match is not None, "a file begins as it is read"
    yield beginning[: match.start(2)] + root(beginning, *match.span(2)).encode() + beginning[match.end(2) :]
    for name in order:
        yield raw(parts[name])


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


class Stored:
    """A file that is being read: its beginning has been verified, each part is when it is read.

    header   what was written;  places: of the parts, in the file's order

    Raises   Damaged where the file is cut off or changed; FutureVersion where a later library wrote it
    """

    def __init__(self, source: Source, what: str = "the cache file"):
        self.source, self.what = source, what
        self.header, self.places, self.begin = _opened(source, what)
        self.held: dict[str, Tensor] = {}

    @property
    def names(self) -> list[str]:
        """Of the parts that can be read."""
        return list(self.places)

    def read(self, name: str) -> Tensor:
        """A part, in memory of its own.

        Raises   Damaged where it is not what was written
        """
        return self.held.pop(name) if name in self.held else self._read(name)

    def hold(self) -> None:
        """Read every part now; each is handed out when it is first asked for, and read again for later ones.

        Raises   Damaged where one is not what was written
        """
        self.held = {name: self._read(name) for name in self.places}

    def verify(self) -> None:
        """Read every part once and let go of it."""
        for name in self.places:
            self._read(name)

    def _read(self, name: str) -> Tensor:
        place = self.places.get(name)
        if place is None:
            raise Damaged(f"{self.what} has no part {name!r}, which its header names")
        # Memory of torch's own, aligned as everywhere: sums may depend on that to the last bit.
        held = torch.empty(place.end - place.begin, dtype=torch.uint8)
        view = held.numpy().data
        self.source.fill(self.begin + place.begin, view, self.what)
        if digest(name, place.dtype, place.shape, view) != place.digest:
            raise Damaged(f"{self.what} is damaged: the part {name!r} is not what was written")
        return held.view(DTYPES[place.dtype]).view(place.shape)


def _opened(source: Source, what: str) -> tuple[dict[str, Any], dict[str, Place], int]:
    """(header, places, where the parts begin)."""
    match = START.match(source.read(0, AHEAD), 8)
    size = int.from_bytes(source.read(0, 8), "little")
    if match is None or size > LONGEST:
        raise Damaged(f"{what} is no cache of this library, or its beginning is damaged")
    beginning = source.read(0, 8 + size)
    if len(beginning) < 8 + size:
        raise Damaged(f"{what} is cut off: it ends inside its header")
    if int(match[1]) > VERSION:
        raise FutureVersion(f"{what} has version {int(match[1])}; this library reads version {VERSION}")
    if int(match[1]) < VERSION:
        raise Damaged(f"{what} is damaged, or of version {int(match[1])}, which nobody reads any more")
    if root(beginning, *match.span(2)).encode() != match[2]:
        raise Damaged(f"{what} is damaged: its header is not what was written")
    try:
        header, places = _parsed(beginning[8:])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Damaged(f"{what} is damaged: its header cannot be read") from None
    missing = 8 + size + max((place.end for place in places.values()), default=0) - source.size
    if missing:
        words = "is cut off: {} bytes are missing" if missing > 0 else "has {} bytes behind its end"
        raise Damaged(f"{what} {words.format(abs(missing))}")
    return header, places, 8 + size


def _parsed(text: bytes) -> tuple[dict[str, Any], dict[str, Place]]:
    """(header, places), where the parts lie without gaps and each fits its dtype and shape."""
    data = json.loads(text)
    header = json.loads(data.pop("__metadata__")[KEY])
    digests, at = header.pop("digests"), 0
    if digests.keys() != data.keys():
        raise ValueError("every part has a digest")
    places: dict[str, Place] = {}
    for name, part in sorted(data.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = part["data_offsets"]
        shape = tuple(int(n) for n in part["shape"])
        n_bytes = DTYPES[part["dtype"]].itemsize
        for n in shape:
            n_bytes *= n
        if begin != at or end - begin != n_bytes or min(shape, default=0) < 0:
            raise ValueError(f"the part {name} has no place")
        places[name], at = Place(part["dtype"], shape, begin, end, digests[name]), end
    return header, places


@dataclass(frozen=True)
class File:
    """A path of this machine."""

    path: Path

    def source(self) -> Source:
        """What stands there, held open while it is read.

        Raises   CacheFileError where it cannot be read
        """
        try:
            return Opened(self.path.open("rb", buffering=0))
        except OSError as error:
            raise CacheFileError(f"cannot read the cache {self.path}: {error.strerror or error}") from None

    def publish(self, data: Iterable[Bytes]) -> None:
        """Put a whole file there, readable by its owner alone, or leave what was there.

        Raises   CacheFileError where it cannot be written
        """
        draft = None
        try:
            number, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".keyvalise-")
            with open(number, "wb") as file:
                for chunk in data:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.path)
            draft = None
            _sync(self.path.parent)
        except OSError as error:
            raise CacheFileError(f"cannot write the cache {self.path}: {error.strerror or error}") from None
        finally:
            if draft is not None:
                Path(draft).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Let the new name outlive a power cut, where folders can be asked to."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def open_uri(uri: str | os.PathLike[str]) -> File:
    """Where a cache is to be put or found: a path, or file://path.

    Raises   CacheFileError for any other scheme
    """
    text = os.fspath(uri)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme is None:
        return File(Path(text).expanduser())
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise CacheFileError(f"cannot open {text}: a cache is kept at a path or at file:///path")
    return File(Path(unquote(parts.path)))


def opened(data: Bytes | Source, what: str = "the cache file") -> Stored:
    """A file's bytes, or where they are read from, as what can be read from them."""
    return Stored(Held(memoryview(data)) if isinstance(data, bytes | bytearray | memoryview) else data, what)
