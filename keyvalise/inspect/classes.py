"""Classes of a model's tokens: which are special, which are punctuation, as a tokenizer says."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.host.model import text_config
from keyvalise.store import asset
from keyvalise.store.asset import Asset

PLAIN, SPECIAL, PUNCTUATION = range(3)


def of(tokenizer: Any, size: int = 0) -> Tensor:
    """int8 [V]: the class of every id, V at least `size`; ids that the tokenizer does not know are plain.

    special       what it calls so, and every marker that was added to its vocabulary
    punctuation   tokens of nothing but signs, such as "." or "),"
    """
    special = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    table = torch.zeros(max(size, len(tokenizer), *(i + 1 for i in special)), dtype=torch.int8)
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    signs = [i for i, text in enumerate(texts) if is_punctuation(text)]
    table[torch.tensor(signs, dtype=torch.long)] = PUNCTUATION
    table[torch.tensor(sorted(special), dtype=torch.long)] = SPECIAL
    return table


def is_punctuation(text: str) -> bool:
    """Whether a text is signs and spaces alone, of which at least one sign."""
    signs = text.strip()
    return bool(signs) and all(
        unicodedata.category(sign)[0] == "P" or sign in string.punctuation for sign in signs
    )


def save(model: Any, tokenizer: Any, folder: Path | None = None) -> Path:
    """The classes as the asset "classes", in the user's folder for this model or in another; its file.

    Raises   AssetError where it cannot be written
    """
    mark = assets.fingerprint(model)
    path = (folder or assets.home() / mark) / "classes.safetensors"
    table = of(tokenizer, int(text_config(model).vocab_size))
    asset.write(path, Asset("classes", {"classes": table}, {"model": mark, "source": "tokenizer"}))
    return path
