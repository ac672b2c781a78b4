"""From the address of a store to the place that keeps it; optional clients are loaded when asked for.

path, file:///path               a folder                        memory://     this process alone
s3://  gs://  az://  abfs://     object storage (obstore)        redis://  rediss://  valkey://  unix://
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from keyvalise.store.tiers import objects, valkey
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.tier import Tier
from keyvalise.types.errors import StoreError

VARIABLE = "KEYVALISE_STORE"
"""Environment variable: the address of the store that is meant where none is given."""

HOME = "KEYVALISE_HOME"

OBJECTS = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
"""Schemes that obstore understands."""


def default() -> str:
    """The store that is meant where none is given: the variable's, or a folder of the user's."""
    home = os.environ.get(HOME) or "~/.cache/keyvalise"
    return os.environ.get(VARIABLE) or f"{home}/store"


def tier(uri: str) -> Tier:
    """The place that an address names.

    Raises   StoreError for a scheme nobody knows, or whose client is not installed
    """
    scheme, mark, _ = uri.partition("://")
    if not uri.strip():
        raise StoreError("the address of a store is empty; give a folder")
    if not mark:
        return DirectoryTier(uri)
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(f"{uri} names a folder of the machine {parts.netloc}; write file:///folder")
        return DirectoryTier(unquote(parts.path))
    if scheme == "memory":
        return MemoryTier()
    if scheme in OBJECTS:
        return objects.reached(uri)
    if scheme in valkey.SCHEMES:
        return valkey.reached(uri)
    known = ("file", "memory", *OBJECTS, *valkey.SCHEMES)
    raise StoreError(f"no store is reached by {scheme}://; write a folder or one of {', '.join(known)}")
