"""How the parts of a worker are compiled: into it, never beside it.

A part that stayed a function would be there twice, compiled alone and once more for its caller, and sums may
run in another order in each. The process that compiles would call the one, all that load what it kept the
other, and their last bits would differ.
"""

from __future__ import annotations

import functools

from numba import njit

inlined = functools.partial(njit, forceinline=True)
"""Compiled alone and then taken over: for what is called in several places, or has sums of its own."""

merged = functools.partial(njit, inline="always")
"""Taken over before anything is compiled, which is quicker: for what is called once."""
