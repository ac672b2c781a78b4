"""Links that blobs come over by name: one with a clock of its own, and one of real sockets with a throttle.

A link has `now()`, seconds on its clock, and `fetch(name)`, which takes as long as the link takes.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from keyvalise.types.errors import InputError

Source = Callable[[str], bytes]
"""Name → blob; InputError for a name that it does not know."""

_LENGTH = struct.Struct("<q")
_SLICE = 16 * 1024
_MOST_NAME = 4096


class Link(Protocol):
    """Where blobs come from."""

    def now(self) -> float:
        """Seconds."""

    def fetch(self, name: str) -> bytes:
        """The blob of that name."""


@dataclass
class VirtualLink:
    """A link that only computes how long things take.

    trace   (seconds, bytes per second), one after another; the last one goes on for ever
    """

    source: Source
    trace: Sequence[tuple[float, float]]
    clock_s: float = 0.0

    def now(self) -> float:
        return self.clock_s

    def fetch(self, name: str) -> bytes:
        data = self.source(name)
        left, begin = float(len(data)), 0.0
        for i, (seconds, rate) in enumerate(self.trace):
            end = float("inf") if i == len(self.trace) - 1 else begin + seconds
            if self.clock_s < end and left > 0:
                taken = min(left, (end - self.clock_s) * rate)
                # Not by adding up, so that a whole blob ends where its length says.
                self.clock_s = self.clock_s + taken / rate if taken == left else end
                left -= taken
            begin = end
        return data

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock_s += seconds


@dataclass
class Bucket:
    """Tokens that come at a rate and are kept up to a burst; who takes more than there are waits."""

    rate: float
    burst: float
    tokens: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def take(self, n: int) -> None:
        """Wait until n bytes may go."""
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate) - n
        self.at = now
        if self.tokens < 0:
            time.sleep(-self.tokens / self.rate)


class Server:
    """Serves blobs over TCP on this machine, never faster than `rate` bytes per second; a context manager."""

    def __init__(self, source: Source, rate: float):
        bucket = Bucket(rate, burst=float(_SLICE))

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while (name := _receive(self.request)) is not None:
                    try:
                        data = source(name.decode("utf-8", "replace"))
                    except InputError:
                        self.request.sendall(_LENGTH.pack(-1))
                        continue
                    self.request.sendall(_LENGTH.pack(len(data)))
                    for i in range(0, len(data), _SLICE):
                        piece = data[i : i + _SLICE]
                        bucket.take(len(piece))
                        self.request.sendall(piece)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.server.server_address[:2]
        return str(host), int(port)

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class SocketLink:
    """The other end of a `Server`; a context manager.

    Raises   InputError where nobody listens at the address
    """

    def __init__(self, address: tuple[str, int], timeout_s: float = 30.0):
        try:
            self.socket = socket.create_connection(address, timeout_s)
        except OSError as flaw:
            raise InputError(f"no server answers at {address[0]}:{address[1]}: {flaw}") from None
        self.begin = time.monotonic()

    def now(self) -> float:
        """Seconds since the connection was made."""
        return time.monotonic() - self.begin

    def fetch(self, name: str) -> bytes:
        """The blob of that name.

        Raises   InputError where the server has none, or the connection ends
        """
        encoded = name.encode()
        try:
            self.socket.sendall(_LENGTH.pack(len(encoded)) + encoded)
            (length,) = _LENGTH.unpack(_exactly(self.socket, _LENGTH.size))
            if length < 0:
                raise InputError(f"the server has nothing named {name!r}")
            return _exactly(self.socket, length)
        except OSError as flaw:
            raise InputError(f"the link broke while {name!r} was on its way: {flaw}") from None

    def __enter__(self) -> SocketLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _receive(connection: Any) -> bytes | None:
    """The next name that a client asks for, or None where it has gone."""
    try:
        (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
        return _exactly(connection, length) if 0 <= length <= _MOST_NAME else None
    except OSError:
        return None


def _exactly(connection: socket.socket, n: int) -> bytes:
    out = bytearray()
    while len(out) < n:
        piece = connection.recv(min(n - len(out), 1 << 20))
        if not piece:
            raise ConnectionError("the other end has gone")
        out += piece
    return bytes(out)
