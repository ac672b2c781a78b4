"""Assets by their content: pq@1a2b3c4d5e6f is the asset whose file begins so when it is hashed.

A recipe that names an asset in this way means one file for ever, whoever trains another under the same name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

DIGITS = 12
"""How many digits of a hash are shown; a name takes any number from SHORTEST on."""

SHORTEST = 6
_NAMED = re.compile(rf"^(?:(?P<name>.*)@(?:sha256:)?|sha256:)(?P<digits>[0-9a-f]{{{SHORTEST},64}})$")


def split(name: str) -> tuple[str, str]:
    """(name, digits of the hash) of an asset's name; no digits where it names none."""
    match = _NAMED.match(name)
    return (match["name"] or "", match["digits"]) if match else (name, "")


def of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def first(paths: Iterable[Path], digits: str) -> Path | None:
    """The first of the files whose content hashes to these digits."""
    return next((path for path in paths if path.is_file() and of(path).startswith(digits)), None)
