"""Triton and the words that kernels are written in; importing this costs half a second and needs triton.

Triton is no dependency, so it is asked for by name: it comes with torch where there is a CUDA device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keyvalise.ops.fast import plan

triton: Any = importlib.import_module("triton")
tl: Any = importlib.import_module("triton.language")
jit: Any = triton.jit

if TYPE_CHECKING:
    constexpr = Any
else:
    constexpr = tl.constexpr

IS_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))
"""Whether kernels run line by line in numpy, which knows no products of 16-bit matrices."""

SUMS, WIDE, NARROW = (tl.constexpr(i) for i in range(3))
"""How numbers are multiplied, see `sizes.Product`."""

WORDS = tl.constexpr(plan.WORDS)
"""Codewords of a book."""
