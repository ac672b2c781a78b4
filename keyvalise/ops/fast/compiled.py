"""How the bitstream's kernels are compiled: on first call, kept on disk where that is possible.

No fast mathematics anywhere: a decoder on another machine must find the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Any:
    """The function, compiled when it is first called with new types."""
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError as flaw:
        warnings.warn(
            f"compiled kernels cannot be kept on disk, so every process compiles them anew ({flaw}); "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        return njit(error_model="numpy")(function)
