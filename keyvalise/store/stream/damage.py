"""What bytes that prove whole but make no sense lead to: one error, and no more room than a reader allows."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator

from keyvalise.types.errors import DamagedStream, KeyvaliseError


@contextlib.contextmanager
def of_frame() -> Iterator[None]:
    """Whatever goes wrong with a frame's bytes is damage."""
    try:
        yield
    except (ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError) as flaw:
        if isinstance(flaw, KeyvaliseError):
            raise
        raise DamagedStream(f"a frame of the stream makes no sense: {flaw}") from None


@contextlib.contextmanager
def of_header() -> Iterator[None]:
    """Whatever goes wrong with what a header says is damage."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        zlib.error,
    ) as flaw:
        if isinstance(flaw, KeyvaliseError):
            raise
        raise DamagedStream("the header of the stream cannot be read") from None


def check_room(n_bytes: int, most_bytes: int) -> None:
    """Numbers of so many bytes may be read.

    Raises   DamagedStream
    """
    if n_bytes > most_bytes:
        raise DamagedStream(f"the stream says that it holds {n_bytes} bytes; at most {most_bytes} are read")
