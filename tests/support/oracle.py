"""The full cache with dropped entries masked out: what any recipe that only drops must equal.

It needs no trained weights: the same calls run through transformers' own cache, and a mask per layer, row and head
hides exactly the tokens that the recipe's cache no longer held when the call began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from keyvalise import KVCache, detach
from keyvalise.host import attention as host

NAME = "keyvalise_oracle"
Kept = dict[int, list[list[list[int]]]]


@dataclass(frozen=True)
class Call:
    """One forward: ids [B, S], the 2D mask so far [B, columns], position ids [B, S]."""

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor


def calls(ids: torch.Tensor, mask: torch.Tensor, widths: list[int]) -> list[Call]:
    """Cut ids [B, T] with a padding mask into forwards of these widths."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out, begin = [], 0
    for width in widths:
        end = begin + width
        out.append(Call(ids[:, begin:end], mask[:, :end], positions[:, begin:end]))
        begin = end
    return out


def through(model: Any, cache: Any, steps: list[Call]) -> tuple[list[torch.Tensor], list[Kept]]:
    """(logits of every call, what every handled layer held when the call began)."""
    logits, kept = [], []
    for step in steps:
        layers = cache.shared.layers if isinstance(cache, KVCache) else {}
        kept.append({i: cache.kept_positions(i) for i in layers})
        with torch.no_grad():
            out = model(step.ids, attention_mask=step.mask, position_ids=step.positions, past_key_values=cache)
        logits.append(out.logits)
    return logits, kept


def masked(model: Any, steps: list[Call], kept: list[Kept]) -> list[torch.Tensor]:
    """Logits of the full cache where every layer and head sees only what `kept` lists, and the call's own tokens."""
    detach(model)
    config = model.config.get_text_config(decoder=True)
    before, config._attn_implementation = config._attn_implementation, NAME
    _state.base = before
    cache, logits = DynamicCache(config=model.config), []
    try:
        for step, held in zip(steps, kept, strict=True):
            _state.visible = {layer: _visible(step, lists) for layer, lists in held.items()}
            with torch.no_grad():
                out = model(step.ids, attention_mask=step.mask, position_ids=step.positions, past_key_values=cache)
            logits.append(out.logits)
    finally:
        config._attn_implementation = before
    return logits


def real(step: Call) -> torch.Tensor:
    """bool [B, S]: the call's columns that are not padding."""
    return step.mask[:, -step.ids.shape[1] :].bool()


def _visible(step: Call, lists: list[list[list[int]]]) -> torch.Tensor | None:
    """bool [B, H, S, columns], or None before anything was held."""
    if not lists:
        return None
    n_rows, n_columns = step.mask.shape
    width = step.ids.shape[1]
    ordinals = step.mask.cumsum(-1) - 1
    seen = torch.zeros((n_rows, len(lists[0]), n_columns), dtype=torch.bool)
    for row, heads in enumerate(lists):
        for head, held in enumerate(heads):
            seen[row, head] = torch.isin(ordinals[row], torch.tensor(held)) & step.mask[row].bool()
    seen[..., -width:] = False
    own = torch.ones(width, width, dtype=torch.bool).tril()[None] & real(step)[:, None]
    visible = seen[:, :, None].repeat(1, 1, width, 1)
    visible[..., -width:] = own[:, None]
    return visible


class _State:
    base: str = "sdpa"
    visible: dict[int, torch.Tensor | None] = {}


_state = _State()


def _mask(*, config: Any, **arguments: Any) -> host.MaskInfo:
    make = ALL_MASK_ATTENTION_FUNCTIONS[_state.base]
    arguments = {**arguments, "config": config}
    return host.MaskInfo(arguments["q_length"], None, True, arguments, make)


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    visible = _state.visible.get(module.layer_idx)
    if visible is None:
        base = attention_mask.base if isinstance(attention_mask, host.MaskInfo) else attention_mask
        host._before[id(module.config)] = _state.base
        try:
            return host.base_attention(module)(module, query, key, value, base, **options)
        finally:
            host._before.pop(id(module.config))
    group = query.shape[1] // key.shape[1]
    scores = torch.matmul(query.float(), key.float().repeat_interleave(group, 1).transpose(-1, -2)) * options["scaling"]
    if options.get("softcap"):
        scores = torch.tanh(scores / options["softcap"]) * options["softcap"]
    shown = visible.repeat_interleave(query.shape[1] // visible.shape[1], 1)
    scores = scores.masked_fill(~shown, torch.finfo(torch.float32).min)
    if options.get("s_aux") is not None:
        sinks = options["s_aux"].float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        weights = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    out = torch.matmul(weights, value.float().repeat_interleave(group, 1))
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
