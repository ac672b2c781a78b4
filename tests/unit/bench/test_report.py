"""The report: everything in one file, nothing fetched, everything escaped."""

from __future__ import annotations

import dataclasses
import functools
import re
from html.parser import HTMLParser

from keyvalise.bench import plots, report, summary
from tests.unit.bench import fakes

RESULTS = [
    fakes.result("full", "1111", n_bytes=8000),
    fakes.result("snapkv @ 25%", "1011", n_bytes=2000),
    fakes.result("<b>odd & ends</b> @ 10%", "0011", n_bytes=800),
    fakes.refusal("int8 @ 10%", "int8 needs at least 59% & more"),
]


class Outline(HTMLParser):
    """Tags, addresses, and the words outside scripts and styles."""

    def __init__(self, text):
        HTMLParser.__init__(self)
        self.addresses, self.words, self._inside = [], [], []
        self.feed(re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL))

    def handle_starttag(self, tag, attributes):
        self._inside.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@functools.cache
def whole():
    """The report of the results above."""
    return report.page(RESULTS)


def test_nothing_is_fetched():
    page = whole()
    assert set(re.findall(r"<script[^>]*>", page)) <= {"<script>", '<script type="text/javascript">'}
    assert Outline(page).addresses == []
    assert not re.search(r"<(?:link|img|iframe)\b", page.split("</style>")[1].split("<script")[0])


def test_rows_ledger_and_refusals_are_told():
    text = Outline(whole()).text
    for words in ("full 8,000 100.0% 4/4", "snapkv @ 25% 2,000 25.0% 3/4", "25.0% 0.2500 1,020 40 3.0 MiB"):
        assert words in text
    assert "int8 @ 10% int8 needs at least 59% & more" in text
    assert "snapkv @ 25% 1,000 1,000 2,000" in text
    assert "<b>odd & ends</b> @ 10%" in text


def test_names_are_escaped():
    assert "<b>odd" not in whole().replace("\\u003cb", "").split("<h2>Right answers")[0]


def test_the_question_is_never_seen_or_the_report_says_so():
    plain = Outline(whole()).text
    aware = [dataclasses.replace(r, settings={**r.settings, "query_aware": True}) for r in RESULTS]
    assert "no question was seen before the compression" in plain and "Query-aware" not in plain
    told = Outline(report.page(aware)).text
    assert "Query-aware" in told and "no question was seen" not in told


def test_several_kinds_of_document_stand_apart():
    other = [
        dataclasses.replace(r, document={**r.document, "kind": "dense"}, key=r.key + "d") for r in RESULTS[:2]
    ]
    text = Outline(report.page([*RESULTS, *other])).text
    assert "By document recipe needle, sparse, 512 needle, dense, 512" in text
    assert "By document" not in Outline(whole()).text


def test_the_picture_shows_every_row():
    figure = plots.accuracy(summary.rows(RESULTS))
    assert [trace.name for trace in figure.data] == ["full", "snapkv", "<b>odd & ends</b>"]
    assert tuple(figure.data[1].x) == (0.25,) and tuple(figure.data[1].y) == (0.75,)


def test_the_map_has_a_row_per_head_and_shows_one_recipe():
    figure = plots.kept(RESULTS)
    assert [trace.visible for trace in figure.data] == [True, False, False]
    assert list(figure.data[0].y) == ["layer 0 · head 0", "layer 0 · head 1"]
    assert [list(row) for row in figure.data[0].z] == [[0.0, 1.0, 0.5], [1.0, 0.25, 0.0]]
    assert plots.kept([fakes.refusal("x", "y")]) is None


def test_an_interrupted_run_without_the_full_cache_still_has_a_report():
    assert "snapkv" in report.page([fakes.result("snapkv @ 25%", "01")])
