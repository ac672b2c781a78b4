"""Echo and induction heads look at earlier copies of the present token, and at what followed them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise.host.cache import KVCache
from keyvalise.host.model import host_layers, text_config
from keyvalise.store.roll import Roll
from keyvalise.types.data import Memory

COPIES = 4
BLOCK = 256
"""Queries looked at together."""


def measure(model: Any, tokenizer: Any, *, length: int = 256, seed: int = 0) -> dict[str, Tensor]:
    """ "echo" and "induction", each [L, Hq]: mean attention on all earlier copies, and on their successors.

    One sequence of `length` random tokens, none of them special, stands COPIES times behind the first token.
    """
    config = text_config(model)
    shape = (len(host_layers(model)), config.num_attention_heads)
    scores = {name: torch.zeros(shape) for name in ("echo", "induction")}
    special = set(tokenizer.all_special_ids)
    words = torch.tensor([i for i in range(min(len(tokenizer), config.vocab_size)) if i not in special])
    generator = torch.Generator().manual_seed(seed)
    once = words[torch.randint(len(words), (length,), generator=generator)]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else int(once[0])
    ids = torch.cat([torch.tensor([first]), once.repeat(COPIES)])[None].to(model.device)
    cache = KVCache(model)

    def see(layer: int, q: Tensor, memory: Memory) -> None:
        env = cache.shared.layers[layer].env
        assert env is not None
        keys = Roll.of(memory).entries.keys()[0].float()
        for name, score in of_layer(q[0], keys, env.geometry.scale, length).items():
            scores[name][layer] = score.cpu()

    cache.shared.watch = see
    with torch.no_grad():
        model(ids, past_key_values=cache, logits_to_keep=1)
    return scores


def of_layer(q: Tensor, keys: Tensor, scale: float, length: int) -> dict[str, Tensor]:
    """Both scores [Hq] of one layer; q [Hq, T, D], keys [H, T, D], the first column before the copies."""
    n = q.shape[1]
    wide = keys.repeat_interleave(q.shape[0] // keys.shape[0], 0).transpose(1, 2)
    place = torch.arange(n, device=q.device)
    total = {name: torch.zeros(q.shape[0], device=q.device) for name in ("echo", "induction")}
    for begin in range(length + 1, n, BLOCK):
        own = place[begin : begin + BLOCK, None]
        row = (q[:, begin : begin + BLOCK].float() @ wide * scale).masked_fill(place > own, -torch.inf)
        row = row.softmax(-1)
        is_copy = (place > 0) & (place < own) & ((place - own) % length == 0)
        follows = (place > 1) & (place <= own) & ((place - 1 - own) % length == 0) & (place - 1 < own)
        total["echo"] += (row * is_copy).sum((1, 2))
        total["induction"] += (row * follows).sum((1, 2))
    return {name: score / (n - length - 1) for name, score in total.items()}


def razor(echo: Tensor, induction: Tensor, shares: tuple[float, float] = (0.01, 0.14)) -> Tensor:
    """One gate [L, H] in (0, 1] for both kinds: a head enters as soon as either kind's share reaches it.

    Formula   1 / (1 + min(rank_echo / 1 %, rank_induction / 14 %)), ranks as shares of all heads, from 0
    """
    entered = [
        score.flatten().argsort(descending=True, stable=True).argsort() / score.numel() / share
        for score, share in zip((echo, induction), shares, strict=True)
    ]
    return (1 / (1 + torch.minimum(*entered))).view(echo.shape)
