"""Results as JSON lines: appended whole, read back after an interruption."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from keyvalise.types.errors import InputError


@dataclass(frozen=True)
class Result:
    """One recipe on one document.

    Units    *_bytes bytes; share 0-1 of a 16-bit full cache's keys and values; prefill_s seconds
    right    per question;  refused: why the recipe cannot be built here, all else is then empty
    kept     [layer][kv head][bin] share 0-1 of the tokens kept along the document
    entries  [layer][kv head] tokens kept
    """

    key: str
    document: dict[str, Any]
    settings: dict[str, Any]
    recipe: str
    n_tokens: int = 0
    held_bytes: int = 0
    share: float = 0.0
    right: tuple[bool, ...] = ()
    answers: tuple[str, ...] = ()
    error: float | None = None
    prefill_s: float = 0.0
    decode_tokens_per_s: float = 0.0
    peak_rss_bytes: int = 0
    fields: dict[str, int] | None = None
    layers: dict[str, int] | None = None
    entries: list[list[int]] | None = None
    kept: list[list[list[float]]] | None = None
    refused: str | None = None
    machine: dict[str, Any] | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(line: str) -> Result:
        data = json.loads(line)
        known = {field.name for field in fields(Result)}
        data = {name: value for name, value in data.items() if name in known}
        return Result(**{**data, "right": tuple(data["right"]), "answers": tuple(data["answers"])})


class Results:
    """A file of results. A last line that an interruption tore is dropped when the file is opened.

    is_fresh   begin with an empty file
    Raises   InputError where the folder cannot be written or the file holds something else
    """

    def __init__(self, path: Path, *, is_fresh: bool = False):
        self.path = path
        self.known: dict[str, Result] = {}
        self._end: int | None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
            whole = path.read_bytes() if path.exists() and not is_fresh else b""
        except OSError as error:
            raise InputError(f"cannot write results to {path}: {error.strerror or error}") from None
        self._end = whole.rfind(b"\n") + 1
        for number, line in enumerate(whole[: self._end].decode("utf-8", "replace").splitlines(), 1):
            try:
                result = Result.from_json(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise InputError(
                    f"{path}:{number} is not a result of keyvalise bench; choose another folder"
                ) from None
            self.known[result.key] = result

    def add(self, result: Result) -> None:
        """Append one line; it is on the disk when this returns. The first one overwrites what was torn."""
        with self.path.open("ab") as file:
            if self._end is not None:
                file.truncate(self._end)
                self._end = None
            file.write(result.to_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.known[result.key] = result

    def of(self, keys: Iterable[str]) -> list[Result]:
        """The known results with these keys, in their order."""
        return [self.known[key] for key in keys if key in self.known]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it.

    Raises   InputError where it cannot be written
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink()
