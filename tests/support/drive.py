"""Texts with left padding, and what a cache did while they ran through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.store.roll import Roll
from keyvalise.store.tokens import Tokens
from keyvalise.types.data import Memory
from tests.support.models import VOCABULARY

Kept = dict[int, list[list[list[int]]]]
"""layer → [row][kv head] → ordinals, ascending."""


@dataclass(frozen=True)
class Call:
    """One forward: ids [B, S], the 2D mask so far [B, columns], position ids [B, S]."""

    ids: Tensor
    mask: Tensor
    positions: Tensor

    @property
    def real(self) -> Tensor:
        """bool [B, S]: the columns that are not padding."""
        return self.mask[:, -self.ids.shape[1] :].bool()


@dataclass(frozen=True)
class Text:
    """ids [B, T] with padding at the left, mask [B, T]."""

    ids: Tensor
    mask: Tensor

    def row(self, row: int) -> Text:
        """One row alone, without its padding."""
        real = self.mask[row].bool()
        return Text(self.ids[row : row + 1, real], self.mask[row : row + 1, real])

    def calls(self, *widths: int) -> list[Call]:
        """The text as forwards of these widths; what they leave over is not used."""
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        ends = torch.tensor(widths).cumsum(0).tolist()
        assert ends[-1] <= self.ids.shape[1], "a text cannot give more tokens than it has"
        return [
            Call(self.ids[:, end - width : end], self.mask[:, :end], positions[:, end - width : end])
            for end, width in zip(ends, widths, strict=True)
        ]

    @property
    def pads(self) -> list[int]:
        return (self.mask.shape[1] - self.mask.sum(-1)).tolist()


def text(*lengths: int, seed: int = 0) -> Text:
    """Rows of these lengths; no token comes twice in a row."""
    width, generator = max(lengths), torch.Generator().manual_seed(seed)
    rows = [torch.randperm(VOCABULARY - 5, generator=generator)[:width] + 5 for _ in lengths]
    mask = (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()
    return Text(torch.stack(rows) * mask, mask)


@dataclass(frozen=True)
class Trail:
    """logits [B, S, V] of every call; what was held after every call; the cache at the end."""

    logits: list[Tensor]
    kept: list[Kept]
    cache: Any


def run(model: Any, cache: Any, calls: Sequence[Call]) -> Trail:
    """Take calls through a model with a cache, of ours or of transformers."""
    logits, kept = [], []
    for call in calls:
        with torch.no_grad():
            out = model(
                call.ids, attention_mask=call.mask, position_ids=call.positions, past_key_values=cache
            )
        logits.append(out.logits)
        kept.append(held(cache))
    return Trail(logits, kept, cache)


def held(cache: Any) -> Kept:
    """What every handled layer of a cache of ours holds; nothing for other caches."""
    layers = cache.shared.layers if isinstance(cache, KVCache) else {}
    return {i: cache.kept_positions(i) for i in layers}


def weights(cache: KVCache) -> dict[int, list[list[list[float]]] | None]:
    """The log-weights beside `held`, None where a layer has none."""
    found: dict[int, list[list[list[float]]] | None] = {}
    for i, layer in cache.shared.layers.items():
        entries = None if layer.memory is None else Roll.of(layer.memory).entries
        if entries is None or entries.logw is None:
            found[i] = None
            continue
        found[i] = [
            [w[live].tolist() for w, live in zip(*pair, strict=True)]
            for pair in zip(entries.logw, entries.live, strict=True)
        ]
    return found


def counts(kept: Kept) -> list[int]:
    """Entries per (layer, row, kv head)."""
    return [len(head) for rows in kept.values() for row in rows for head in row]


def apart(memory: Memory) -> tuple[Memory, list[Tensor]]:
    """A memory without the codes that only a call can read, and these codes."""
    codes = [x for s in memory.segments if isinstance(s, Tokens) for _, x in sorted(s.codes.items())]
    rest = tuple(segment for segment in memory.segments if not isinstance(segment, Tokens))
    return replace(memory, segments=rest), codes


def snapshot(cache: KVCache) -> list[Tensor]:
    """Copies of everything that can be read from the handled layers of a cache."""
    copies = []
    for layer in cache.shared.layers.values():
        if layer.memory is None:
            continue
        memory, codes = apart(layer.memory)
        entries = Roll.of(memory).entries
        copies += [entries.ordinals, entries.keys(), entries.values(), *entries.columns.values(), *codes]
        copies += [] if entries.logw is None else [entries.logw]
        copies += list(layer.memory.stats.values())
    return [tensor.clone() for tensor in copies]
