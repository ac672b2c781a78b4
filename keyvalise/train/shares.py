"""Which share of its tokens every layer can spare when all layers are to retain an equal share of attention.

Formula    I_l[j] = Σ over the prompt's queries of the heads' mean attention on j;  `ops.water.counts` splits
           (1 − share)·L·N entries so that the layer that retains least retains most;  d_l = 1 − count_l / N
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.ops import water
from keyvalise.train.attention import Seam, served

BLOCK = 256
"""Queries looked at together."""


def mass(model: Any, prompt: Tensor) -> Tensor:
    """Attention that every token of a prompt [1, N] receives in the handled layers, float64 [L', N]."""
    found: dict[int, Tensor] = {}
    handled = models.handled(models.host_layers(model))

    def attend(seam: Seam) -> Tensor:
        if seam.layer in handled:
            found[seam.layer] = column_sums(seam).double().cpu()
        return seam.native()

    with served(model, attend), torch.no_grad():
        model.base_model(input_ids=prompt, use_cache=False)
    return torch.stack([found[layer] for layer in handled])


def column_sums(seam: Seam) -> Tensor:
    """Σ over the queries of the mean over the heads, [T]."""
    width = seam.query.shape[2]
    sums = torch.zeros(seam.keys.shape[2], device=seam.keys.device)
    for begin in range(0, width, BLOCK):
        sums += seam.probabilities(begin, min(begin + BLOCK, width)).mean(0).sum(0)
    return sums


def dropped(received: Tensor, share: float, sinks: int = 1, recent: int = 1) -> Tensor:
    """Shares [L'] that layers with this mass [L', N] drop, `share` in the mean; the ends stay."""
    n_layers, n = received.shape
    place = torch.arange(n)
    guard = (place < sinks) | (place >= n - recent)
    total = round((1 - share) * n_layers * n)
    return 1 - water.counts(received, total, guard).double() / n
