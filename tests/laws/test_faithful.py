"""faithful: every recipe keeps what its paper's formula keeps, and reduces to what it should reduce to.

The formulas are computed once more in `faithful/`, plainly, from the matrices that the model itself shows.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest

import keyvalise
from tests.laws import faithful
from tests.laws.faithful.table import RELATIONS

for module in pkgutil.iter_modules(faithful.__path__):
    importlib.import_module(f"{faithful.__name__}.{module.name}")


@pytest.mark.parametrize(
    ("name", "relation"),
    [(name, relation) for name, relations in RELATIONS.items() for relation in relations],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_relation_of_the_paper_holds(name: str, relation: Callable[[], None]) -> None:
    assert name in keyvalise.recipes()
    relation()


def test_every_recipe_has_a_relation() -> None:
    assert set(RELATIONS) == set(keyvalise.recipes())
