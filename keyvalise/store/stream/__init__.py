"""A bitstream for keys and values: for storing and sending, never attended.

    data = stream.write(sheets, "medium")                        one Sheet per layer → bytes
    sheets = stream.read(data)                                   and back
    data = stream.write(sheets, "lossless", is_progressive=True)
    sheets = stream.read(data, upto="small")                     the same as a stream written at that level
    data = stream.write_arrays({"codes": tensor, …})             any numbers, bit for bit

`LEVELS` names the levels from smallest to lossless. `shelf`, `link`, `controller` and `fetch` send a row
chunk by chunk, each at the level that keeps a deadline. The room knows no model: a sheet is plain tensors.
"""

from __future__ import annotations

from keyvalise.store.stream.arrays import holds, read_arrays, write_arrays
from keyvalise.store.stream.levels import LEVELS, find
from keyvalise.store.stream.reader import read
from keyvalise.store.stream.sheet import Sheet
from keyvalise.store.stream.writer import write

__all__ = ["LEVELS", "Sheet", "find", "holds", "read", "read_arrays", "write", "write_arrays"]
