"""What a stored cache is, told without its model: its header in words, its bytes, its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keyvalise.host import thawed
from keyvalise.host.ledger import Line
from keyvalise.host.thawed import Origin
from keyvalise.store import layer as store
from keyvalise.store.file import Stored


@dataclass(frozen=True)
class Looked:
    """Of a file: where it comes from, bytes per layer and field, layer → [row][kv head] → ordinals."""

    header: Mapping[str, Any]
    origin: Origin
    lines: tuple[Line, ...]
    kept: dict[int, list[list[list[int]]]]
    file_bytes: int

    @property
    def nbytes(self) -> int:
        return sum(line.n_bytes for line in self.lines)

    def facts(self) -> dict[str, Any]:
        """Plain data for JSON."""
        own = {name: self.header[name] for name in ("recipe", "seen", "dtype", "edits")}
        lines = [asdict(line) for line in self.lines]
        return {**own, "nbytes": self.nbytes, "file_bytes": self.file_bytes, "lines": lines}

    def words(self) -> Iterator[tuple[str, str]]:
        """What is worth knowing of the header."""
        made, counts = self.origin.identity, self.header["tokens"]
        yield "recipe", self.header["recipe"]
        yield "model", f"{made.architecture} in {made.dtype}, weights {made.weights[:12]}"
        yield from ((name, str(value)) for name, value in made.shapes.items())
        yield "tokenizer", made.tokenizer[:12] if made.tokenizer else "not told"
        yield "tokens seen", ", ".join(map(str, counts)) if counts else f"{self.header['seen']}, ids not told"
        yield "dtype of raw entries", self.header["dtype"]
        if made.adapters or self.origin.edits:
            yield "adapters and edits", ", ".join((*made.adapters, *self.origin.edits))
        if "streams" in self.header:
            yield "level of the bitstream", self.header["streams"]["level"]
        yield "salt", "yes" if self.origin.salt else "none"


def at(stored: Stored) -> Looked:
    """A file whose parts are read once.

    Raises   Damaged where one is not what was written
    """
    origin, memories = thawed.origin(stored), thawed.alone(stored)
    lines: dict[tuple[int, str, str], int] = {}
    for layer, memory in memories.items():
        for kind, (field, _, tensor) in store.tensors(memory):
            key = (layer, kind, field)
            lines[key] = lines.get(key, 0) + tensor.untyped_storage().nbytes()
    for name in stored.names:
        room, *rest = name.split(".")
        if room == "layers" and int(rest[0]) not in memories:
            key = (int(rest[0]), "host", "states")
            lines[key] = lines.get(key, 0) + stored.read(name).nbytes
    return Looked(
        stored.header,
        origin,
        tuple(Line(*key, "file", n_bytes, False) for key, n_bytes in sorted(lines.items())),
        {layer: store.positions(memory) for layer, memory in memories.items()},
        stored.source.size,
    )
