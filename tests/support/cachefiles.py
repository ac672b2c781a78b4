"""Cache files with something wrong: in their bytes, or in what another writer could have put into them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from keyvalise.store import file


def cut(data: bytes) -> tuple[bytes, bytes]:
    """(beginning, parts)."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[:end], data[end:]


def retold(data: bytes, change: Callable[[Any, Any], None], *, is_rooted: bool = True) -> bytes:
    """A file whose header is changed, with a right root unless told otherwise."""
    beginning, body = cut(data)
    outer = json.loads(beginning[8:])
    inner = json.loads(outer["__metadata__"]["keyvalise"])
    change(inner, outer)
    outer["__metadata__"]["keyvalise"] = json.dumps(inner, separators=(",", ":"))
    text = json.dumps(outer, separators=(",", ":")).encode()
    beginning = len(text).to_bytes(8, "little") + text
    match = file.START.match(beginning, 8)
    if match is not None and is_rooted:
        new = file.root(beginning, *match.span(2)).encode()
        beginning = beginning[: match.start(2)] + new + beginning[match.end(2) :]
    return beginning + body


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The bytes with one thing wrong."""
    beginning, body = cut(data)
    match chance.randrange(7):
        case 0 | 1:
            at = chance.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 2:
            at = chance.randrange(len(beginning))
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 3:
            return data[: chance.randrange(len(data))]
        case 4:
            mine, theirs = cut(chance.choice(others))
            return (beginning + theirs) if chance.random() < 0.5 else (mine + body)
        case 5:
            return swapped(data, chance)
        case _:
            at, n = chance.randrange(len(data)), chance.randrange(1, 64)
            noise = chance.randbytes(n)
            return data[:at] + noise + data[at + (n if chance.random() < 0.5 else 0) :]


def swapped(data: bytes, chance: random.Random) -> bytes:
    """Two parts of one size exchanged; without the last byte where no two are alike."""
    opened = file.opened(data)
    sizes: dict[int, list[file.Place]] = {}
    for place in opened.places.values():
        sizes.setdefault(place.end - place.begin, []).append(place)
    alike = [places for n, places in sizes.items() if n and len(places) > 1]
    if not alike:
        return data[:-1]
    one, two = sorted(chance.sample(chance.choice(alike), 2), key=lambda place: place.begin)
    at = opened.begin
    a, b = data[at + one.begin : at + one.end], data[at + two.begin : at + two.end]
    return data[: at + one.begin] + b + data[at + one.end : at + two.begin] + a + data[at + two.end :]
