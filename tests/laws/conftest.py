"""Every law meets every recipe: a test that asks for `case` (or a kind of case) runs once for each of the
table.

case      every recipe and composition             entry       the catalogue's entries
dropping  those that drop                          coding      those that write codes
raw       those that write no codes                forgetting  those that drop and do nothing else
"""

from __future__ import annotations

import pytest

from tests.support.cases import CASES, CATALOGUE

TABLES = {
    "case": CASES,
    "entry": CATALOGUE,
    "dropping": tuple(case for case in CASES if case.drops),
    "dropping_entry": tuple(case for case in CATALOGUE if case.drops),
    "raw": tuple(case for case in CASES if not case.codes),
    "raw_dropping": tuple(case for case in CASES if case.drops and not case.codes),
    "forgetting": tuple(case for case in CASES if case.forgets and not case.codes),
    "coding": tuple(case for case in CASES if case.codes),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per row of the table that the test names as an argument."""
    for name, table in TABLES.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, table, ids=[case.name for case in table])
