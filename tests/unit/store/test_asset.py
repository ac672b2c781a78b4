"""Assets: what is written is read back, and what is damaged is refused by one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from keyvalise.store import asset
from keyvalise.store.asset import KEY, Asset
from keyvalise.types.errors import AssetError

MADE = Asset("heads", {"heads": torch.rand(3, 7), "more": torch.arange(5)}, {"model": "abc", "of": ["x", 3]})


def file(folder: Path, header: str | None, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A safetensors file with any text as its header."""
    path = folder / "x.safetensors"
    path.write_bytes(save(tensors or {"heads": torch.ones(3, 7)}, None if header is None else {KEY: header}))
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.safetensors"
    asset.write(path, MADE)
    found = asset.read(path)
    assert found.kind == "heads" and found.header == {"model": "abc", "of": ["x", 3]}
    assert found.tensors.keys() == MADE.tensors.keys()
    for name, tensor in MADE.tensors.items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype
    assert [one.name for one in path.parent.iterdir()] == ["b.safetensors"]
    assert asset.is_asset(path.read_bytes())


def test_writing_replaces_whole_files_and_takes_views(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    asset.write(path, MADE)
    asset.write(path, Asset("layers", {"layers": torch.arange(12.0)[::3]}))
    assert asset.read(path).tensors["layers"].tolist() == [0, 3, 6, 9]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(AssetError, match=r"cannot write the asset .*x: "):
        asset.write(tmp_path / "x", MADE)
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match="cannot write"):
        asset.write(tmp_path / "file" / "y", MADE)


def test_a_damaged_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    asset.write(path, MADE)
    whole = path.read_bytes()
    for n in (0, 3, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(AssetError, match=r"damaged|no asset"):
            asset.read(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(AssetError, match="damaged"):
        asset.read(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "is no asset of this library"),
        ("3", "is no asset of this library"),
        ("{}", "is no asset of this library"),
        ("{", "is no asset of this library"),
        (json.dumps({"version": 2, "kind": "heads"}), "has version 2; this library reads version 1"),
        (json.dumps({"version": 1}), "is damaged: 'kind'"),
    ],
)
def test_headers_that_say_something_else(tmp_path: Path, header: str | None, said: str) -> None:
    with pytest.raises(AssetError) as caught:
        asset.read(file(tmp_path, header))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"cannot read the asset .*nothing: No such file"):
        asset.read(tmp_path / "nothing")


@pytest.mark.parametrize("data", [b"", b'{"0-0": [1]}', b"0.5\t0.5\n", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_other_files_do_not_begin_as_assets_do(data: bytes) -> None:
    assert not asset.is_asset(data)
