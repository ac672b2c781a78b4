"""Every law meets every recipe: a test that asks for `case` (or a kind of case) runs once for each of the
table.

case      every recipe and composition             entry       the catalogue's entries
dropping  those that drop                          coding      those that write codes
raw       those that write no codes and read all   forgetting  those that drop and do nothing else
reading   those that read few entries

Every law meets the whole catalogue, and a quarter of the compositions; the others it meets in `make slow`.
"""

from __future__ import annotations

import zlib

import pytest

from tests.support.cases import CASES, CATALOGUE, Case

TABLES = {
    "case": CASES,
    "entry": CATALOGUE,
    "dropping": tuple(case for case in CASES if case.drops),
    "dropping_entry": tuple(case for case in CATALOGUE if case.drops),
    "raw": tuple(case for case in CASES if not (case.codes or case.reads)),
    "reading": tuple(case for case in CASES if case.reads),
    "raw_dropping": tuple(case for case in CASES if case.drops and not case.codes),
    "forgetting": tuple(case for case in CASES if case.forgets and not case.codes),
    "coding": tuple(case for case in CASES if case.codes),
}


OF_A_LAYER = {
    "test_inner_cuts_equal_the_callers",
    "test_never_more_than_the_budget_and_one_chunk",
    "test_a_chunked_prompt_needs_the_budget_and_a_chunk",
    "test_one_shot_only_one_layer_is_whole",
    "test_a_draft_taken_back_never_was",
    "test_drafts_again_and_again",
    "test_a_fork_and_a_crop_keep_their_places",
    "test_columns_follow_their_entries",
    "test_prompt_lookup",
    "test_assistant_model",
    "test_without_prompt_ends_the_first_crop_tells",
    "test_where_the_prompt_ends_can_be_said",
}
"""What only stages that look at their own layer promise: cuts inside a call, and taking drafts back."""


PORTION = 4
"""One composition in so many is met at once."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per row of the table that the test names as an argument."""
    law = metafunc.function.__name__
    for name, table in TABLES.items():
        if name in metafunc.fixturenames:
            rows = [case for case in table if law not in OF_A_LAYER or not case.is_joint]
            metafunc.parametrize(
                name,
                [
                    pytest.param(case, marks=[pytest.mark.slow] if is_later(law, case) else [])
                    for case in rows
                ],
                ids=[case.name for case in rows],
            )


def is_later(law: str, case: Case) -> bool:
    """Whether a law meets a composition in `make slow` alone; which ones is another for every law."""
    return case.arguments is None and zlib.crc32(f"{law} {case.name}".encode()) % PORTION > 0
