"""A property as two tests: one with few examples, and a slow one with many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings


def at_length(
    few: int, many: int, **strategies: Any
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """`given`, with the same examples on every machine and at every run."""

    def mark(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            settings(max_examples=examples, deadline=None, derandomize=True)(given(**strategies)(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return mark
