"""A row over a link: chunk after chunk, each at the level that the controller chooses.

Flows in    a link to a `Shelf`, a controller;  receiver: takes what has come, computes what has not
Flows out   a decoder that holds every chunk that came as a stream, and what was chosen
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keyvalise.store.stream import frame
from keyvalise.store.stream.controller import TEXT, Catalogue, Controller
from keyvalise.store.stream.decode import Decoder
from keyvalise.store.stream.link import Link
from keyvalise.store.stream.shelf import NONE


@dataclass(frozen=True, slots=True)
class Sent:
    """One chunk as it went: level or TEXT, bytes, and when it was ready."""

    name: str
    n_bytes: int
    ready_s: float


class Receiver(Protocol):
    """What becomes of chunks, in their order."""

    def come(self, chunk: int, decoder: Decoder) -> None:
        """A chunk has come as a stream."""

    def compute(self, begin: int, end: int) -> None:
        """The text of the entries begin … end − 1, a chunk, is to be computed."""


class Nobody:
    """Leaves what comes in the decoder, and computes nothing."""

    def come(self, chunk: int, decoder: Decoder) -> None: ...

    def compute(self, begin: int, end: int) -> None: ...


def fetch(link: Link, controller: Controller, receiver: Receiver | None = None) -> tuple[Decoder, list[Sent]]:
    """Everything that a `Shelf` offers, in time where that is possible.

    Raises   DamagedStream; InputError where the link breaks
    """
    decoder, log, frames, receiver = Decoder(), list[Sent](), frame.Parser(), receiver or Nobody()
    catalogue = Catalogue.parse(link.fetch("catalogue"))
    _take(decoder, frames, link.fetch("head"))
    offers, have, ready_s = catalogue.offers, NONE, link.now()
    for i, offer in enumerate(offers):
        shared, begin = catalogue.shared[have], link.now()
        name = controller.choose(offers[i:], begin, ready_s, shared)
        if name == TEXT:
            first = sum(one.tokens for one in offers[:i])
            receiver.compute(first, first + offer.tokens)
            ready_s = max(begin, ready_s) + offer.tokens / (controller.prefill or 1)
            log.append(Sent(name, offer.text, ready_s))
            continue
        data = b""
        if shared[name]:
            data, have = link.fetch(f"sides/{have}/{name}"), name
        data += link.fetch(f"chunk/{i}/{name}")
        controller = controller.observe(len(data), link.now() - begin)
        _take(decoder, frames, data)
        receiver.come(i, decoder)
        ready_s = max(link.now(), ready_s) + len(data) / controller.decoding
        log.append(Sent(name, len(data), ready_s))
    return decoder, log


def _take(decoder: Decoder, frames: frame.Parser, data: bytes) -> None:
    for one in frames.feed(data):
        decoder.add(one)
