"""How much host memory a cache may take, and where its files go."""

from __future__ import annotations

import os

import psutil

from keyvalise.types.errors import InputError, RecipeError
from keyvalise.types.quantity import Budget
from keyvalise.types.slow import Slow

SHARE = 0.8
"""Of the memory that is free when a cache is made, what may be taken."""

VARIABLE = "KEYVALISE_SPILL"
"""Environment variable: the folder of files of entries."""


def of(host_memory: int | str | None) -> Slow:
    """The slow tiers of a new cache.

    Raises   InputError for an amount of memory that is none
    """
    return Slow(_bytes(host_memory), os.environ.get(VARIABLE))


def _bytes(host_memory: int | str | None) -> int:
    if host_memory is None:
        return int(SHARE * psutil.virtual_memory().available)
    if isinstance(host_memory, str):
        try:
            budget = Budget.parse(host_memory)
        except RecipeError:
            budget = None
        amount = int(budget.amount) if budget is not None and budget.unit == "B" else 0
    else:
        amount = host_memory
    if amount < 1:
        raise InputError(f"host memory must be a number of bytes such as 8GiB, got {host_memory!r}")
    return amount
