"""The smallest things of a bitstream: whole numbers, runs of bytes, arrays; written one after another.

A reader believes nothing: whatever asks for more than there is, or for more than `LARGEST`, is damage.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keyvalise.types.errors import DamagedStream

LARGEST = 2**31 - 1


class Writer:
    """Bytes that grow."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        """A whole number ≥ 0, seven bits per byte."""
        while value >= 128:
            self.data.append(value & 127 | 128)
            value >>= 7
        self.data.append(value)

    def blob(self, data: bytes) -> None:
        """A run of bytes behind its length."""
        self.number(len(data))
        self.data += data

    def array(self, values: npt.NDArray[np.generic], kind: str) -> None:
        """Numbers of a little-endian numpy type; their count is known to the reader."""
        self.data += np.ascontiguousarray(values, np.dtype(kind)).tobytes()


class Reader:
    """The same, read."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def number(self, most: int = LARGEST) -> int:
        """A whole number of at most `most`."""
        value = shift = 0
        while True:
            if self.at >= len(self.data):
                raise DamagedStream("the stream ends within a number")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 35:
                raise DamagedStream("a number of the stream does not end")
        if value > most:
            raise DamagedStream(f"the stream says {value} where at most {most} makes sense")
        return value

    def blob(self) -> bytes:
        """A run of bytes."""
        return self.take(self.number())

    def array(self, count: int, kind: str) -> npt.NDArray[np.generic]:
        """`count` numbers of a little-endian numpy type."""
        dtype = np.dtype(kind)
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or n > len(self.data) - self.at:
            raise DamagedStream(f"the stream ends {n - len(self.data) + self.at} bytes too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def finish(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise DamagedStream(f"{len(self.data) - self.at} bytes of the stream belong to nothing")
