"""The report in a real browser, without a network: the plots are drawn and the menu works."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from keyvalise.bench import report
from tests.unit.bench import fakes

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000",
)  # fmt: skip

CHECK = """
<script>
window.addEventListener("error", e => document.title = "ERROR " + e.message);
window.addEventListener("load", () => setTimeout(async () => {
  const map = document.querySelector("#kept .js-plotly-plot");
  await Plotly.restyle(map, {visible: [false, true]});
  document.body.dataset.shown = map.data.map(trace => trace.visible).join();
  document.body.dataset.points = document.querySelectorAll("#accuracy .scatterlayer .point").length;
  document.body.dataset.images = document.querySelectorAll("#kept .heatmaplayer image").length;
}, 500));
</script>
"""


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def drawn(browser, tmp_path_factory):
    """The page's elements after its scripts have run."""
    folder = tmp_path_factory.mktemp("report")
    results = [
        fakes.result("full", "1111", n_bytes=8000),
        fakes.result("snapkv @ 25%", "1011", n_bytes=2000),
        fakes.result("snapkv @ 10%", "0011", n_bytes=800),
    ]
    path = folder / "report.html"
    path.write_text(report.page(results).replace("</body>", CHECK + "</body>"))
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def value(page, name):
    return re.search(rf'data-{name}="([^"]*)"', page)[1]


def test_nothing_breaks(drawn):
    assert "<title>ERROR" not in drawn
    assert "<title>Keyvalise: " in drawn


def test_every_row_is_a_point(drawn):
    assert int(value(drawn, "points")) == 3


def test_the_map_is_drawn_and_another_recipe_can_be_chosen(drawn):
    assert value(drawn, "images") == "1"
    assert value(drawn, "shown").startswith("false,true")
    assert "layer 0 · head 1" in drawn and "updatemenu" in drawn


def test_the_tables_are_there(drawn):
    for name in ("results", "ledger"):
        assert f'<table id="{name}">' in drawn
