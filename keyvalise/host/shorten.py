"""Shorter text instead of a smaller cache: the tokens that a model's evaluator heads look at, in their order.

The model runs up to the layer of those heads only; what was computed is thrown away, so that nothing stale
remains when the shorter text is read, by this model or another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.host.cache import KVCache
from keyvalise.ops import mass, pool
from keyvalise.store.roll import Roll
from keyvalise.types.data import Entries, Memory, Stretch
from keyvalise.types.errors import InputError


class _SeenEnough(Exception):
    """Stops a forward behind the evaluators' layer."""


def shorten(
    model: Any,
    tokenizer: Any,
    text: str,
    budget: int | float,
    *,
    window: int = 16,
    neighbours: int = 33,
    profile: str = "evaluators",
) -> str:
    """The text without the tokens that the evaluator heads of a model care least about.

    budget       tokens that stay, or a share of them as a number below 1
    window       last tokens: they ask, and always stay;  neighbours: over which attention is averaged
    profile      asset of evaluator heads, see `keyvalise profile`

    Raises   InputError for an empty text or a budget that does not hold the window; AssetError without a
             profile of this model
    """
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.to(model.device)
    n_tokens = ids.shape[1]
    if not text.strip() or not n_tokens:
        raise InputError("the text is empty")
    n_kept = int(budget * n_tokens) if isinstance(budget, float) and budget < 1 else int(budget)
    if n_kept >= n_tokens:
        return text
    if n_kept <= window:
        raise InputError(f"a budget of {n_kept} tokens does not hold more than the last {window}")
    votes = _votes(model, ids, window, profile)
    live = torch.ones_like(votes, dtype=torch.bool)
    scores = pool.average(votes, live, neighbours)[0, 0, : n_tokens - window]
    best = scores.topk(n_kept - window).indices.sort().values
    last = torch.arange(n_tokens - window, n_tokens, device=ids.device)
    shorter: str = tokenizer.decode(ids[0, torch.cat([best, last])], skip_special_tokens=True)
    return shorter.strip()


def _votes(model: Any, ids: Tensor, window: int, profile: str) -> Tensor:
    """float32 [1, 1, T]: attention of the last queries in the evaluator heads, which sit in one layer."""
    cache = KVCache(model)
    shape, indices = cache.shared.geometry, tuple(cache.shared.layers)
    found = assets.of(((profile, "heads"),), model, shape, indices, len(cache.layers))
    heads = found[profile]["heads"]
    number = int(heads.sum(1).argmax())
    seen: list[Tensor] = []

    def watch(layer: int, q: Tensor, memory: Memory) -> None:
        if layer != indices[number]:
            return
        env = cache.shared.layers[layer].env
        assert env is not None
        last = min(window, q.shape[2])
        ordinals = Stretch.whole(q.shape[2], (0,)).ordinals(q.device)[:, -last:]
        entries: Entries = Roll.of(memory).entries
        rows = mass.window_mass(env.geometry, q[:, :, -last:], ordinals, entries)
        seen.append((rows * (heads[number] > 0)[:, None]).sum(1, keepdim=True))
        raise _SeenEnough

    cache.shared.watch = watch
    try:
        with torch.no_grad():
            model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    except _SeenEnough:
        pass
    return seen[0]
