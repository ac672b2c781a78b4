"""Published score files: every schema is known by what stands in it, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from keyvalise.store import asset, profile
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from tests.support import torch_files

NAN, INF = float("nan"), float("inf")


def read(folder: Path, content: Any, name: str = "misleading.bin") -> Asset:
    """A file with these bytes, this text, or this as JSON."""
    path = folder / name
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return profile.read(path)


def table(rows: list[list[float]]) -> str:
    return "".join("\t".join(f"{x:.18e}" for x in row) + "\n" for row in rows)


def test_gates_are_clipped_between_nothing_and_all(tmp_path: Path) -> None:
    found = read(tmp_path, table([[0.25, -0.0106], [1.0078, 0.75], [1.0, 0.0]]))
    assert found.kind == "heads" and found.header == {"form": "gates", "granularity": "kv"}
    assert found.tensors["heads"].tolist() == [[0.25, 0.0], [1.0, 0.75], [1.0, 0.0]]
    assert found.tensors["heads"].dtype == torch.float32


def test_scores_of_trials_are_averaged_whatever_the_order_of_heads(tmp_path: Path) -> None:
    data = {"1-0": [0.5, 1.79], "0-1": [0.0, 0.0, 0.3], "0-0": [0.25], "1-1": 0.125}
    found = read(tmp_path, data)
    assert found.kind == "heads" and found.header == {"form": "scores", "granularity": "q"}
    want = torch.tensor([[0.25, 0.1], [1.145, 0.125]])
    assert torch.allclose(found.tensors["heads"], want, atol=1e-7, rtol=0)


def test_ranks_become_scores_that_fall(tmp_path: Path) -> None:
    found = read(tmp_path, {"1": [3, 0, 2, 1], "0": [0, 1, 2, 3], "2": [2, 1, 0, 3]})
    assert found.kind == "heads" and found.header == {"form": "ranks", "granularity": "q"}
    assert found.tensors["heads"].tolist() == [
        [1, 0.75, 0.5, 0.25],
        [0.75, 0.25, 0.5, 1],
        [0.5, 0.75, 1, 0.25],
    ]


def test_sets_name_members_and_leave_layers_out(tmp_path: Path) -> None:
    found = read(tmp_path, {"2": [3, 0], "0": [1]})
    assert found.kind == "heads" and found.header == {"form": "sets", "granularity": "kv"}
    assert found.tensors["heads"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize(
    "lists", [{"0": [0], "1": [0]}, {"0": [0, 1], "1": [0, 1]}, {"1": [1, 0], "3": [0, 1]}]
)
def test_sets_that_look_like_ranks_are_sets(tmp_path: Path, lists: dict[str, list[int]]) -> None:
    assert read(tmp_path, lists).header["form"] == "sets"


def test_sets_in_a_torch_file_are_united(tmp_path: Path) -> None:
    found = read(tmp_path, torch_files.SETS, "sets.json")
    assert found.header == {"form": "sets", "granularity": "kv"}
    assert found.tensors["heads"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 1]]


def test_a_torch_file_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssetError, match="holds no sets of heads, but UnpicklingError when opened"):
        read(tmp_path, torch_files.CALLS)
    assert not capsys.readouterr().out


def test_errors_of_layers_are_the_average_over_data_sets(tmp_path: Path) -> None:
    data = {"qasper": [0.7, 0.2, 0.1], "avg_score": [0.5, 0.3, 0.2], "trec": [0.3, 0.4, 0.3]}
    found = read(tmp_path, json.dumps(data, indent=2), "layer_score.jsonl")
    assert found.kind == "layers" and found.header == {"form": "errors", "granularity": "layer"}
    assert torch.equal(found.tensors["layers"], torch.tensor([0.5, 0.3, 0.2]))


def test_a_list_is_what_layers_drop(tmp_path: Path) -> None:
    found = read(tmp_path, [0.114, 0.765, 0, 1])
    assert found.kind == "dropped" and found.header == {"form": "dropped", "granularity": "layer"}
    assert torch.equal(found.tensors["layers"], torch.tensor([0.114, 0.765, 0, 1]))


@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_our_own_assets_are_known_whatever_bytes_they_hold(tmp_path: Path, fill: float) -> None:
    path = tmp_path / "mine.tsv"
    asset.write(
        path, Asset("heads", {"heads": torch.full((3, 7), fill)}, {"granularity": "q", "model": "abc"})
    )
    found = profile.read(path)
    assert found.header == {"granularity": "q", "model": "abc"}
    assert torch.equal(found.tensors["heads"], torch.full((3, 7), fill))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssetError, match="is damaged"):
        profile.read(path)


REFUSED: list[tuple[Any, str]] = [
    ("", "it is empty"),
    (" \n", "it is empty"),
    (b"\xff\xfe\x00", "can't decode"),
    ("a poem\nof two lines", "could not convert"),
    (table([[0.5, 0.5], [0.5]]), "its rows are not equally long"),
    (table([[0.5, NAN]]), "a finite number for each of its layers and heads"),
    (table([[0.5, INF]]), "a finite number for each of its layers and heads"),
    (table([[0.5, 0.5]])[:-8] + "e+\n", "could not convert"),
    ({"0-0": [0.5], "1-1": [0.5]}, "a finite number for each"),
    ({"0-0": [0.5, NAN]}, "a finite number for each"),
    ({"0-0": []}, "head 0-0 has no trials"),
    ({"0-0": ["much"]}, "could not convert"),
    ({"0-0": None}, "no score file that is known here"),
    ({"99999-0": [1]}, "its keys are neither"),
    ({"0": [0, -1]}, "layers and heads lie between 0 and 9999"),
    ({"0": [10**9]}, "layers and heads lie between 0 and 9999"),
    ({"0": []}, "it names no head"),
    ({"0": 3}, "not iterable"),
    ({}, "its keys are neither"),
    ({"qasper": [0.5]}, "its keys are neither layers, heads nor data sets"),
    ({"avg_score": [0.5, NAN]}, "a finite number for each of its layers"),
    ({"avg_score": [[0.5]]}, "no score file that is known here"),
    ([0.5, 1.5], "shares that layers drop lie between 0 and 1"),
    ([0.5, -0.5], "shares that layers drop lie between 0 and 1"),
    ([0.5, NAN], "a finite number for each of its layers"),
    ([], "a finite number for each of its layers"),
    ([[0.5]], "no score file that is known here"),
    ('{"0-0": [0.5', "no score file that is known here"),
    (b"PK\x05\x06" + bytes(18), "holds no sets of heads"),
    (torch_files.SETS[:-30], "no score file that is known here"),
]


@pytest.mark.parametrize(("content", "said"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_anything_else_is_refused_in_one_sentence(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(AssetError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert said in text and "misleading.bin" in text and "\n" not in text


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("heads", torch.ones(7)),
        ("heads", torch.ones(3, 0)),
        ("heads", torch.full((3, 7), NAN)),
        ("layers", torch.ones(3, 7)),
        ("layers", torch.tensor([1.0, INF])),
    ],
)
def test_our_own_assets_hold_numbers_for_layers_and_heads(
    tmp_path: Path, name: str, tensor: torch.Tensor
) -> None:
    asset.write(tmp_path / "x", Asset("heads", {name: tensor}))
    with pytest.raises(AssetError, match="must hold a finite number for each of its layers"):
        profile.read(tmp_path / "x")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"cannot read the profile .*nothing: No such file"):
        profile.read(tmp_path / "nothing")
