"""What a user names, made into what the package takes: models, documents, dtypes, devices.

Every mistake is an InputError that says what was given and what would do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from keyvalise.reference.loading import REFERENCE
from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    import torch

    from keyvalise.store.file import Stored

DTYPES = ("float16", "bfloat16", "float32")


def config(name: str) -> Any:
    """A model's configuration; the embedded one's is read without loading transformers."""
    if name == REFERENCE:
        from keyvalise.reference import MODEL_FOLDER

        return SimpleNamespace(**json.loads((MODEL_FOLDER / "config.json").read_text("utf-8")))
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the configuration of {name!r}: {str(error).splitlines()[0]}") from None


def dtype(name: str, model: Any) -> torch.dtype:
    """The dtype of raw entries; auto: the model's where it has 16 bits, else float16."""
    import torch

    if name == "auto":
        own: torch.dtype = model.dtype
        return own if own.itemsize == 2 else torch.float16
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}; write auto, {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def documents(names: Sequence[str]) -> str:
    """The text of files (`-`: standard input), one behind the other with an empty line between."""
    if not names:
        raise InputError("no document given; add --document FILE, or --document - to read standard input")
    if list(names).count("-") > 1:
        raise InputError("standard input can be read once only; give --document - once")
    return "\n\n".join(_document(name) for name in names)


def _document(name: str) -> str:
    shown = "standard input" if name == "-" else name
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the document {shown}: {error.strerror or error}") from None
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"the document {shown} is not UTF-8 text (byte {error.start})") from None
    if not text:
        raise InputError(f"the document {shown} is empty")
    return text


def packed(name: str) -> Stored:
    """A packed cache, of which nothing but its header has been read.

    Raises   CacheFileError where it cannot be read, is none, or its header is damaged
    """
    from keyvalise.store import file, streamed

    return streamed.opened(file.open_uri(name).source(), f"the cache {name}")


def fits(model: Any, n_document: int, n_question: int, n_new: int) -> None:
    """Refuse what the model's positions cannot hold."""
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    total = n_document + n_question + n_new
    if limit is not None and total > limit:
        raise InputError(
            f"document ({n_document}), question ({n_question}) and answer ({n_new}) make {total} tokens, "
            f"more than the {limit} that the model can read"
        )
