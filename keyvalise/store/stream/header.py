"""What a stream says before anything else: shapes, types, positions, levels. JSON, and arrays beside it.

arrays   ordinals, ids, frequencies: each different one is written once; sheets name them by number
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyvalise.ops import ladder
from keyvalise.store.stream import damage, levels
from keyvalise.store.stream.levels import Level
from keyvalise.store.stream.sheet import DTYPES, Sheet
from keyvalise.types.errors import DamagedStream
from keyvalise.types.geometry import Rope

VERSION = 1
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_KINDS = ("<i4", "<f4")
_MOST = 2**24
_LONGEST = 2**24


@dataclass(frozen=True, eq=False)
class Header:
    """chunk: entries of one;  widths: of the first rung, keys and values per layer;  layers: shapes."""

    chunk: int
    widths: tuple[tuple[float, float], ...]
    levels: tuple[Level, ...]
    layers: tuple[dict[str, Any], ...]
    arrays: tuple[npt.NDArray[np.generic], ...] = ()

    def n_chunks(self, layer: int) -> int:
        """Chunks of a layer; an empty layer has one."""
        return max(1, -(-int(self.layers[layer]["n"]) // self.chunk))

    def span(self, layer: int, chunk: int) -> tuple[int, int]:
        """First entry of a chunk and the one after its last."""
        first = chunk * self.chunk
        return first, min(first + self.chunk, int(self.layers[layer]["n"]))

    def step(self, layer: int, kind: str, rung: int) -> float:
        """The bin of a rung."""
        return self.widths[layer][kind == "values"] / float(ladder.FACTOR**rung)

    def level(self, name: str) -> Level:
        """A level by its name.

        Raises   UnknownName
        """
        known = {level.name: level for level in self.levels}
        return known[name] if name in known else levels.find(name)

    def sheet(self, layer: int) -> Sheet:
        """A layer's sheet with keys and values that hold nothing."""
        spec = self.layers[layer]
        heads, n, dtype = spec["heads"], spec["n"], DTYPES[spec["dtype"]]
        keys = torch.empty((), dtype=dtype).expand(heads, n, spec["dim"])
        values = torch.empty((), dtype=dtype).expand(heads, n, spec["value_dim"])
        is_given = spec["ids"] is not None and not spec["is_inferred"]
        ids = self._tensor(spec["ids"]) if is_given else None
        return Sheet(
            keys, values, self._tensor(spec["ordinals"]), ids, self._rope(spec["rope"]), spec["offset"]
        )

    def _tensor(self, index: int) -> Tensor:
        return torch.from_numpy(self.arrays[index].copy())

    def _rope(self, spec: dict[str, Any] | None) -> Rope | None:
        if spec is None:
            return None
        options = (spec["is_interleaved"], spec["scaling"], spec["is_static"])
        return Rope(self._tensor(spec["frequencies"]), *options)

    def text(self) -> bytes:
        """The header's bytes, arrays only named."""
        chosen = [[level.name, level.keys, level.values, level.is_exact] for level in self.levels]
        parts = {"version": VERSION, "chunk": self.chunk, "widths": self.widths, "levels": chosen}
        parts |= {"layers": self.layers, "arrays": [[x.dtype.str, list(x.shape)] for x in self.arrays]}
        return zlib.compress(json.dumps(parts, separators=(",", ":")).encode(), 9)


def of(sheets: Sequence[Sheet], chunk: int, inferred: Tensor | None = None) -> Header:
    """The header of a row's sheets, one per layer; inferred: ids that serve as contexts alone."""
    arrays: list[npt.NDArray[np.generic]] = []

    def put(x: Tensor, kind: str) -> int:
        array = np.ascontiguousarray(x.cpu().numpy().astype(kind))
        for i, known in enumerate(arrays):
            if known.dtype == array.dtype and np.array_equal(known, array):
                return i
        arrays.append(array)
        return len(arrays) - 1

    layers = []
    for sheet in sheets:
        heads, n, dim = sheet.keys.shape
        ids = sheet.ids if inferred is None else inferred
        spec: dict[str, Any] = {"heads": heads, "n": n, "dim": dim, "value_dim": sheet.values.shape[2]}
        spec |= {"dtype": _NAMES[sheet.keys.dtype], "offset": sheet.offset, "rope": None}
        spec |= {
            "ordinals": put(sheet.ordinals, "<i4"),
            "ids": None if ids is None else put(ids, "<i4"),
            "is_inferred": inferred is not None,
        }
        if sheet.rope is not None:
            rope = sheet.rope
            spec["rope"] = {
                "frequencies": put(rope.frequencies, "<f4"),
                "is_interleaved": rope.is_interleaved,
            }
            spec["rope"] |= {"scaling": rope.scaling, "is_static": rope.is_static}
        layers.append(spec)
    widths = tuple(levels.widths(layer, len(sheets)) for layer in range(len(sheets)))
    return Header(chunk, widths, tuple(levels.LEVELS.values()), tuple(layers), tuple(arrays))


def parse(data: bytes) -> tuple[Header, list[tuple[np.dtype[np.generic], tuple[int, ...]]]]:
    """A header without its arrays, and what each of them is.

    Raises   DamagedStream for anything that is no header
    """
    with damage.of_header():
        parts = json.loads(_inflated(data))
        if parts["version"] != VERSION:
            raise DamagedStream(
                f"the stream has version {parts['version']}; this library reads version {VERSION}"
            )
        arrays = [(_kind(kind), tuple(_whole(n) for n in shape)) for kind, shape in parts["arrays"]]
        chosen = tuple(Level(str(a), _whole(b, 30), _whole(c, 30), bool(d)) for a, b, c, d in parts["levels"])
        widths = tuple((float(keys), float(values)) for keys, values in parts["widths"])
        layers = tuple(_layer(spec, arrays) for spec in parts["layers"])
        header = Header(_whole(parts["chunk"]), widths, chosen, layers)
    if (
        len(widths) != len(layers)
        or not all(1e-6 < x < 1e6 for pair in widths for x in pair)
        or header.chunk < 1
    ):
        raise DamagedStream("the chunks or the bins in the header of the stream make no sense")
    return header, arrays


def _inflated(data: bytes) -> bytes:
    """The text of a header, of which nobody needs more than `_LONGEST` bytes."""
    stream = zlib.decompressobj()
    text = stream.decompress(data, _LONGEST)
    if not stream.eof:
        raise DamagedStream("the header of the stream does not end")
    return text


def complete(header: Header, arrays: Sequence[npt.NDArray[np.generic]]) -> Header:
    """The header with its arrays."""
    return replace(header, arrays=tuple(arrays))


def _layer(spec: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
    """One layer's entry, every number in its range."""
    out: dict[str, Any] = {name: _whole(spec[name]) for name in ("heads", "n", "dim", "value_dim")}
    out |= {"dtype": str(spec["dtype"]), "offset": spec["offset"], "rope": None, "ids": None}
    out["is_inferred"] = bool(spec["is_inferred"])
    shapes = ((out["n"],), (out["heads"], out["n"]))
    for name in ("ordinals", "ids"):
        if spec[name] is not None:
            out[name] = _whole(spec[name], len(arrays) - 1)
            if arrays[out[name]][0].kind != "i" or arrays[out[name]][1] not in shapes:
                raise DamagedStream(f"the {name} of a layer do not fit its entries")
    if 0 in (out["heads"], out["dim"], out["value_dim"]):
        raise DamagedStream("a layer of the stream has no heads or no channels")
    is_place = type(out["offset"]) is int and abs(out["offset"]) < 2**31
    if out["dtype"] not in DTYPES or spec["ordinals"] is None or not is_place:
        raise DamagedStream("a layer of the stream has an impossible type or position")
    if spec["rope"] is not None:
        out["rope"] = _rope(spec["rope"], arrays, out["dim"])
    return out


def _rope(spec: dict[str, Any], arrays: list[Any], dim: int) -> dict[str, Any]:
    index, scaling = _whole(spec["frequencies"], len(arrays) - 1), float(spec["scaling"])
    kind, shape = arrays[index]
    if kind.kind != "f" or len(shape) != 1 or 2 * shape[0] > dim or not 1e-6 < abs(scaling) < 1e6:
        raise DamagedStream("the rotation of a layer does not fit its keys")
    is_interleaved, is_static = bool(spec["is_interleaved"]), bool(spec["is_static"])
    return {
        "frequencies": index,
        "is_interleaved": is_interleaved,
        "scaling": scaling,
        "is_static": is_static,
    }


def _kind(name: str) -> np.dtype[np.generic]:
    if name not in _KINDS:
        raise DamagedStream(f"an array of the stream has the unknown type {name!r}")
    return np.dtype(name)


def _whole(value: Any, most: int = _MOST) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise DamagedStream(
            f"the header of the stream says {value!r} where a number up to {most} makes sense"
        )
    return value
