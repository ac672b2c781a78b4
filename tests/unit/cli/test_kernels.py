"""Kernels before they are needed: what the first use costs, and what is missing, is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from keyvalise.cli import kernels
from keyvalise.cli.screen import Screen
from keyvalise.ops.fast import affine, choose, choosing, decode, legible, mass, nearest, scan
from keyvalise.ops.fast.gpu import legible as on_device
from keyvalise.recipe.object import Recipe


def said(capsys: pytest.CaptureFixture[str], device: str, recipe: str = "full") -> tuple[str, str]:
    model = SimpleNamespace(device=torch.device(device), dtype=torch.float32)
    kernels.prepare(model, Recipe.parse(recipe), Screen(False, False))
    found = capsys.readouterr()
    return found.out, found.err


@pytest.mark.parametrize(
    ("device", "module", "name"), [("cpu", legible, "numba"), ("cuda", on_device, "triton")]
)
def test_a_slower_path_says_that_it_is_slower(
    device: str,
    module: object,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "is_installed", lambda: False)
    out, err = said(capsys, device)
    assert out == "" and f"{name} is not installed" in err and "slower" in err
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert said(capsys, device) == ("", "")


def test_what_compiling_took_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[list[str]] = []
    monkeypatch.setattr(decode, "warm", lambda kinds: compiled.append(list(kinds)))
    assert said(capsys, "cpu")[0] == ""
    monkeypatch.setattr(kernels, "LONG_S", -1.0)
    assert "kernels were compiled in 0 s" in said(capsys, "cpu")[0]
    for recipe in ("snapkv > int4 @ 25%", "center > pq", "commvq"):
        said(capsys, "cpu", recipe)
    assert compiled == [["float32"]] * 2 + [["float32", "integers"], ["float32", "codewords"], ["float32"]]


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ("full", set()),
        ("snapkv", {"mass"}),
        ("h2o > int4", {"mass", "integers"}),
        ("int4", {"integers"}),
        ("quest", {"scan", "units", "centres"}),
        ("retroinfer > int8", {"scan", "units", "centres", "integers"}),
    ],
)
def test_what_a_recipe_needs_is_compiled_before(
    recipe: str, wanted: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: set[str] = set()
    monkeypatch.setattr(decode, "warm", lambda kinds: None)
    monkeypatch.setattr(scan, "warm", lambda dtype: compiled.add("scan"))
    monkeypatch.setattr(choosing, "warm", lambda: compiled.add("units"))
    monkeypatch.setattr(affine, "warm", lambda: compiled.add("integers"))
    monkeypatch.setattr(mass, "warm", lambda: compiled.add("mass"))
    monkeypatch.setattr(nearest, "warm", lambda: compiled.add("centres"))
    said(capsys, "cpu", recipe)
    assert compiled == wanted


def test_each_way_of_preparing_works() -> None:
    scan.warm(torch.float16)
    choosing.warm()
    affine.warm()
    mass.warm()
    nearest.warm()
