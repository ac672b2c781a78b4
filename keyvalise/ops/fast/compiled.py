"""How loops are compiled that are called from Python: on first call, kept on disk where that is possible.

No fast mathematics unless a file asks for it: a decoder on another machine must find the same bits.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba import njit

_CONTRACT: dict[str, Any] = {"error_model": "numpy", "nogil": True}


def seeing(*modules: ModuleType, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compiles a function, when it is first called with new types, that takes constants or calls functions
    from these modules; options are numba's.
    """
    options = {**_CONTRACT, **options}

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            kernel = njit(cache=True, **options)(function)
        except RuntimeError as flaw:
            warnings.warn(
                f"compiled kernels cannot be kept on disk, so every process compiles them anew ({flaw}); "
                "set NUMBA_CACHE_DIR to a folder that can be written",
                RuntimeWarning,
                stacklevel=2,
            )
            return njit(**options)(function)
        # What is kept looks at the function's own file alone; this makes it notice changes in the others.
        with contextlib.suppress(AttributeError):
            place = kernel._cache._cache_file
            place._source_stamp = (place._source_stamp, stamp_of(*modules))
        return kernel

    return compiled


kernel = seeing()


def stamp_of(*modules: ModuleType) -> int:
    """A number that changes with their text: what is kept on disk looks at its own file alone, unless this is
    a part of it.
    """
    return zlib.crc32("".join(map(inspect.getsource, modules)).encode())
