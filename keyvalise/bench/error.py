"""Attention-output error: how far a recipe's attention lies from the full cache's, layer by layer.

Along the full-cache run: the question and the full cache's answer are fed to the model, whose course the
full cache decides; every other cache meets the same queries, keys and values, so no layer inherits an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keyvalise.bench.prefill import FanOut
from keyvalise.host.attention import MaskInfo
from keyvalise.host.cache import KVCache

MOST_BYTES = 256 * 2**20
"""Most bytes of all copies of all caches at once; texts are fed in batches that fit."""


class Gap:
    """Sums ‖o − o_full‖ / ‖o_full‖ over layers, heads and real tokens, one sum per cache."""

    def __init__(self, n_caches: int):
        self.sums = [0.0] * n_caches
        self.n = 0

    def __call__(self, layer: int, outs: Sequence[Tensor], mask: MaskInfo) -> None:
        full = outs[0].float()
        real = real_tokens(mask, full)
        size = full.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        for i, out in enumerate(outs):
            gaps = (out.float() - full).norm(dim=-1) / size
            self.sums[i] += float(gaps[real].sum())
        self.n += int(real.sum()) * full.shape[2]

    def means(self) -> list[float]:
        """The mean per cache."""
        return [total / max(self.n, 1) for total in self.sums]


def real_tokens(mask: MaskInfo, out: Tensor) -> Tensor:
    """bool [B, S]: the columns that hold tokens and not padding."""
    if mask.padding is None:
        return torch.ones(out.shape[:2], dtype=torch.bool, device=out.device)
    return mask.padding[:, -out.shape[1] :].bool()


def attention_errors(model: Any, caches: Sequence[KVCache], texts: Sequence[Sequence[int]]) -> list[float]:
    """Mean error per cache over texts (token ids that follow the document); the first cache is the full one.

    The caches stay as they are.
    """
    texts = [text for text in texts if text]
    gap = Gap(len(caches))
    step = max(1, MOST_BYTES // max(1, sum(cache.nbytes for cache in caches)))
    for begin in range(0, len(texts), step):
        _feed(model, caches, texts[begin : begin + step], gap)
    return gap.means()


def _feed(model: Any, caches: Sequence[KVCache], texts: Sequence[Sequence[int]], gap: Gap) -> None:
    """One batch, padded on the right, so that every token has the position it would have alone."""
    n, width, seen = len(texts), max(map(len, texts)), caches[0].seen
    ids = torch.zeros((n, width), dtype=torch.long)
    mask = torch.zeros((n, seen + width), dtype=torch.long)
    mask[:, :seen] = 1
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, seen : seen + len(text)] = 1
    index = torch.zeros(n, dtype=torch.long)
    fan = FanOut([cache.rows(index) for cache in caches], gap)
    fan.hand_out()
    with torch.no_grad():
        model(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=fan,
            use_cache=True,
            logits_to_keep=1,
        )
