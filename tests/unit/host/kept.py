"""A text, what reads it, and what a model says behind it: for tests of caches that are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.host import answer
from tests.support import drive
from tests.support.models import tiny

TEXT = drive.text(150, seed=4).ids
NEXT = drive.text(9, seed=5).ids
CHUNK = 16
MIXED = "adakv(window=7) > adaptive > int4(residual=8, group=8) @ 40%"


def stored(recipe: str = MIXED, family: str = "llama", n: int = 63, **options: Any) -> KVCache:
    """A cache that has read two rows of text, the second one padded."""
    cache = KVCache(tiny(family), recipe, **options)
    drive.run(tiny(family), cache, drive.text(n, n - 20).calls(n))
    return cache


def read(model: Any, ids: Tensor, recipe: str = "full", **options: Any) -> KVCache:
    """A cache that has read these ids as a document."""
    return answer.read(model, ids, recipe, **options)


@torch.no_grad()
def logits(model: Any, cache: KVCache, ids: Tensor = NEXT) -> Tensor:
    """What a model says to ids behind a cache, which stays as it is."""
    found: Tensor = model(ids, past_key_values=cache.fork()).logits
    return found
