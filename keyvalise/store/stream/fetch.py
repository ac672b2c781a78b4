"""A row over a link: chunk after chunk, each at the level that the controller chooses.

Flows in    a link, what it offers, a controller;  recompute: what computes a chunk from its text
Flows out   a decoder that holds every chunk that came as a stream, and what was chosen
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyvalise.store.stream import frame
from keyvalise.store.stream.controller import TEXT, Controller, Offer
from keyvalise.store.stream.decode import Decoder
from keyvalise.store.stream.link import Link
from keyvalise.store.stream.shelf import NONE


@dataclass(frozen=True, slots=True)
class Sent:
    """One chunk as it went: level or TEXT, bytes, and when it was ready."""

    name: str
    n_bytes: int
    ready_s: float


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a sender has: every chunk, and what levels share (`Shelf.offers`, `Shelf.shared`)."""

    offers: Sequence[Offer]
    shared: Mapping[str, Mapping[str, int]]


def fetch(
    link: Link, catalogue: Catalogue, controller: Controller, recompute: Callable[[int], None] | None = None
) -> tuple[Decoder, list[Sent]]:
    """Everything, in time where that is possible.

    recompute   called with the number of a chunk whose text is to be computed
    Raises      DamagedStream; InputError where the link breaks
    """
    decoder, log, frames = Decoder(), list[Sent](), frame.Parser()
    _take(decoder, frames, link.fetch("head"))
    offers, have, ready_s = catalogue.offers, NONE, link.now()
    for i, offer in enumerate(offers):
        shared, begin = catalogue.shared[have], link.now()
        name = controller.choose(offers[i:], begin, ready_s, shared)
        if name == TEXT:
            if recompute is not None:
                recompute(i)
            ready_s = max(begin, ready_s) + offer.tokens / (controller.prefill or 1)
            log.append(Sent(name, offer.text, ready_s))
            continue
        data = b""
        if shared[name]:
            data, have = link.fetch(f"sides/{have}/{name}"), name
        data += link.fetch(f"chunk/{i}/{name}")
        controller = controller.observe(len(data), link.now() - begin)
        _take(decoder, frames, data)
        ready_s = max(link.now(), ready_s) + len(data) / controller.decoding
        log.append(Sent(name, len(data), ready_s))
    return decoder, log


def _take(decoder: Decoder, frames: frame.Parser, data: bytes) -> None:
    for one in frames.feed(data):
        decoder.add(one)
