"""One asset in one file: tensors that a model was measured or trained for, with where they come from.

A safetensors file whose metadata holds one JSON header. Knows the format; what a tensor means is the business
of the part that asks for it, whether it fits a model that of the host.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from keyvalise.types.errors import AssetError

KEY = "keyvalise"
"""The metadata entry that holds the header."""

VERSION = 1


@dataclass(frozen=True)
class Asset:
    """kind: heads, layers, dropped, retaining, …;  header: what it was made for and from, plain JSON."""

    kind: str
    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any] = field(default_factory=dict)


def write(path: Path, asset: Asset) -> None:
    """Publish an asset as a whole file or not at all.

    Raises   AssetError where the folder cannot be written
    """
    header = {"version": VERSION, "kind": asset.kind, **asset.header}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in asset.tensors.items()}
    data = save(tensors, {KEY: json.dumps(header, sort_keys=True)})
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".asset-", delete=False) as file:
            draft = file.name
            file.write(data)
        os.replace(draft, path)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise AssetError(f"cannot write the asset {path}: {error.strerror or error}") from None


def is_asset(data: bytes) -> bool:
    """Whether bytes begin as a safetensors file does: eight bytes of a length, of which the last is zero,
    then a brace.
    """
    return data[7:9] == b"\0{"


def read(path: Path) -> Asset:
    """The asset in a file.

    Raises   AssetError where the file cannot be read, is no asset, or comes from a later version
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AssetError(f"cannot read the asset {path}: {error.strerror or error}") from None
    header = _header(path, data)
    try:
        return Asset(str(header.pop("kind")), load(data), header)
    except (SafetensorError, KeyError, ValueError) as error:
        raise AssetError(f"the asset {path} is damaged: {str(error).splitlines()[0]}") from None


def _header(path: Path, data: bytes) -> dict[str, Any]:
    try:
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][KEY])
        version = header.pop("version")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AssetError(f"{path} is no asset of this library, or its beginning is damaged") from None
    if version != VERSION:
        raise AssetError(f"the asset {path} has version {version}; this library reads version {VERSION}")
    return header
