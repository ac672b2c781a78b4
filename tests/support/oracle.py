"""The full cache with dropped entries masked out: what any recipe that only drops or weighs must equal.

It needs no trained weights: the same calls run through transformers' own cache, and a bias per layer, row
and head hides exactly the tokens that the recipe's cache no longer held when the call began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from keyvalise import KVCache, detach
from keyvalise.host import attention as host
from tests.support import drive
from tests.support.drive import Call, Kept

NAME = "keyvalise_oracle"
HIDDEN = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Before:
    """What every handled layer held when a call began, and the log-weights of it."""

    kept: Kept
    logw: dict[int, list[list[list[float]]] | None]


def through(model: Any, cache: KVCache, calls: Sequence[Call]) -> tuple[list[Tensor], list[Before]]:
    """(logits of every call, what was held when it began)."""
    logits, before = [], []
    for call in calls:
        before.append(Before(drive.held(cache), drive.weights(cache)))
        logits += drive.run(model, cache, [call]).logits
    return logits, before


def masked(
    model: Any,
    calls: Sequence[Call],
    before: Sequence[Before],
    between: Sequence[Callable[[Any], None]] = (),
) -> list[Tensor]:
    """Logits of the full cache where every layer and head sees only what was held, and the call's own
    tokens.

    between   what is done to the full cache before every call: crops, changes of rows
    """
    detach(model)
    config = model.config.get_text_config(decoder=True)
    _state.base, config._attn_implementation = config._attn_implementation, NAME
    cache, logits = DynamicCache(config=model.config), []
    try:
        for i, (call, was) in enumerate(zip(calls, before, strict=True)):
            if between:
                between[i](cache)
            _state.bias = {i: _bias(call, heads, was.logw[i]) for i, heads in was.kept.items()}
            logits += drive.run(model, cache, [call]).logits
    finally:
        config._attn_implementation = _state.base
    return logits


def _bias(call: Call, kept: list[list[list[int]]], logw: list[list[list[float]]] | None) -> Tensor | None:
    """float [B, H, S, columns], or None before anything was held."""
    if not kept:
        return None
    (n_rows, n_columns), width = call.mask.shape, call.ids.shape[1]
    ordinals = (call.mask.cumsum(-1) - 1).masked_fill(call.mask == 0, -1)
    bias = torch.full((n_rows, len(kept[0]), width, n_columns), HIDDEN)
    for row, heads in enumerate(kept):
        lead = n_columns - int(call.mask[row].sum())
        assert int(ordinals[row, -1]) == n_columns - lead - 1, "rows are padded at the left"
        for head, held in enumerate(heads):
            weight = torch.zeros(len(held)) if logw is None else torch.tensor(logw[row][head])
            bias[row, head, :, torch.tensor(held, dtype=torch.long) + lead] = weight
    own = torch.ones(width, width, dtype=torch.bool).tril()[None] & call.real[:, None]
    bias[..., -width:] = torch.where(own, 0.0, HIDDEN)[:, None]
    return bias


class _State:
    base: str = "sdpa"
    bias: dict[int, Tensor | None] = {}  # noqa: RUF012


_state = _State()


def _mask(*, config: Any, **arguments: Any) -> host.MaskInfo:
    make = ALL_MASK_ATTENTION_FUNCTIONS[_state.base]
    arguments = {**arguments, "config": config}
    return host.MaskInfo(arguments["q_length"], None, True, arguments, make)


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    bias = _state.bias.get(module.layer_idx)
    if bias is None:
        base = attention_mask.base if isinstance(attention_mask, host.MaskInfo) else attention_mask
        host._before[id(module.config)] = _state.base
        try:
            return host.base_attention(module)(module, query, key, value, base, **options)
        finally:
            host._before.pop(id(module.config))
    group = query.shape[1] // key.shape[1]
    logits = torch.matmul(query.float(), key.float().repeat_interleave(group, 1).transpose(-1, -2))
    logits = logits * options["scaling"]
    if options.get("softcap"):
        logits = torch.tanh(logits / options["softcap"]) * options["softcap"]
    shown = bias.repeat_interleave(query.shape[1] // bias.shape[1], 1)
    logits = torch.where(shown == HIDDEN, HIDDEN, logits + shown)
    if options.get("s_aux") is not None:
        sinks = options["s_aux"].float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        weights = torch.cat([logits, sinks], -1).softmax(-1)[..., :-1]
    else:
        weights = logits.softmax(-1)
    out = torch.matmul(weights, value.float().repeat_interleave(group, 1))
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
