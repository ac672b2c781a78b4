"""Rows from results: counts, losses on the same questions, and the fewest bytes."""

from __future__ import annotations

import json
import math

import pytest

from keyvalise.bench import summary
from tests.unit.bench import fakes

RESULTS = [
    fakes.result("full", "1111111110", n_bytes=8000),
    fakes.result("full", "1111111111", n_bytes=8000, seed=2),
    fakes.result("good @ 25%", "1111111110", n_bytes=2000),
    fakes.result("good @ 25%", "1111111111", n_bytes=2200, seed=2),
    fakes.result("fair @ 10%", "1111111100", n_bytes=800),
    fakes.result("fair @ 10%", "1111111101", n_bytes=800, seed=2),
    fakes.result("poor @ 5%", "1000000000", n_bytes=400),
    fakes.result("poor @ 5%", "0000000000", n_bytes=400, seed=2),
    fakes.refusal("int8 @ 10%", "int8 needs at least 59%"),
]


def by_name():
    return {row.recipe: row for row in summary.rows(RESULTS)}


def test_rows_add_up_documents():
    row = by_name()["good @ 25%"]
    assert (row.n_documents, row.n_right, row.n_all, row.held_bytes) == (2, 19, 20, 2100)
    assert row.accuracy == 0.95 and row.loss == 0
    assert row.low < 0.95 < row.high
    assert row.prefill_tokens_per_s == 1020
    assert list(by_name()) == ["full", "good @ 25%", "fair @ 10%", "poor @ 5%"]


def test_loss_is_of_what_the_full_cache_knew():
    assert by_name()["fair @ 10%"].loss == pytest.approx(2 / 19)
    assert by_name()["poor @ 5%"].loss == pytest.approx(18 / 19)


def test_documents_without_a_full_cache_do_not_count():
    alone = [*RESULTS, fakes.result("good @ 25%", "0000000000", seed=3)]
    assert {row.recipe: row for row in summary.rows(alone)}["good @ 25%"].n_all == 20


def test_a_loss_against_nothing_is_no_number():
    row = summary.rows([fakes.result("full", "00"), fakes.result("x", "00")])[1]
    assert math.isnan(row.loss)
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False))["loss"] is None
    assert set(summary.fewest([row]).values()) == {None}


def test_the_fewest_bytes_within_a_loss():
    found = summary.fewest(summary.rows(RESULTS), (0.0, 0.05, 0.11, 0.99))
    assert [row and row.recipe for row in found.values()] == [
        "good @ 25%", "good @ 25%", "fair @ 10%", "poor @ 5%",
    ]  # fmt: skip
    assert summary.fewest([by_name()["full"], by_name()["poor @ 5%"]])[0.10] is None


def test_the_last_line_names_bytes_and_a_command():
    line = summary.last_line(summary.rows(RESULTS))
    assert "\n" not in line
    assert "1% good @ 25% (26.2%, 2.1 KiB)" in line and "10% good @ 25%" in line
    assert 'keyvalise generate --recipe "good @ 25%" --document FILE' in line
    assert '--model "m"' in summary.last_line(summary.rows(RESULTS), "m")
    poor = [result for result in RESULTS if result.recipe in ("full", "poor @ 5%")]
    assert (
        summary.last_line(summary.rows(poor)) == "fewest bytes within a loss of: 1% none · 3% none · 10% none"
    )


def test_refusals_are_named():
    assert summary.refusals(RESULTS) == {"int8 @ 10%": "int8 needs at least 59%"}


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (8.4 * 2**20, "8.4 MiB"), (2**31, "2.00 GiB")],
)
def test_sizes_for_people(n_bytes, text):
    assert summary.size(n_bytes) == text
