"""The catalogue: names lead to parts and recipes, and looking costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keyvalise.recipe import catalogue
from keyvalise.types.errors import UnknownName
from tests.house.checks.source import PACKAGE, ROOT

NAMES = (
    "full streaming h2o observed snapkv tova knorm keydiff expected random weighted_random pyramidkv "
    "adakv headkv headkv_r2 compresskv prefixkv duo rlkv rlkv_surrogate razor vatp caote criticalkv "
    "keyformer fastgen plphp normxlogit locret ehpc kvcrush balancekv ems elastic cam mikv kivi nsnquant "
    "commvq aquakv int8 int4 int2 hqq lvq leanvec lowrank pq rq topk retrievalattention quest retroinfer "
    "sentencekv louiskv actqkv ltri headinfer"
)


def test_the_names_of_the_catalogue() -> None:
    assert " ".join(catalogue.recipes()) == NAMES


@pytest.mark.parametrize("name", catalogue.parts())
def test_a_part_lies_where_the_catalogue_says(name: str) -> None:
    part = catalogue.part(name)
    assert part.name == name and part.room == catalogue.room(name)
    assert name in catalogue.parts(part.room)
    assert part().name == name


def test_every_recipe_file_is_listed() -> None:
    files = {path.stem for path in (PACKAGE / "recipes").glob("*.py")} - {"__init__"}
    assert files == set(catalogue.recipes())


def test_parts_are_named_once() -> None:
    assert len(set(catalogue.parts())) == len(catalogue.parts())


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown part 'wndow'; nearest: window"):
        catalogue.part("wndow")
    with pytest.raises(UnknownName, match="unknown recipe 'tovva'; nearest: tova"):
        catalogue.recipe("tovva")
    with pytest.raises(UnknownName, match="unknown room 'scoer'; nearest: score"):
        catalogue.parts("scoer")
    assert catalogue.room("nothing") is None


def test_names_are_known_without_loading_torch() -> None:
    code = (
        "import sys; from keyvalise.recipe import catalogue; catalogue.parts(); catalogue.recipes(); "
        "catalogue.recipe('snapkv'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
