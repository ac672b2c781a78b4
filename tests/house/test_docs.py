"""Generated pages are those that the code would generate now; links of the docs lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.house.checks.source import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.usefixtures("needs_cli")
def test_generated_pages_are_current() -> None:
    from tools import docs

    assert docs.stale() == [], "run `make docs`"


@pytest.mark.usefixtures("needs_cli")
def test_links_lead_somewhere() -> None:
    links = [
        (page, link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8"))
    ]
    missing = [
        f"{page.name}: {link}"
        for page, link in links
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not missing, missing
