"""The fallback for models that want plain tensors back: latent attention, and designs without the interface.

The queries are never seen, so nothing is decided before the model has attended: a call is appended at once,
and its stages act when the forward has ended. Where rows may differ in length, a hook on the model's trunk
lays our own 4D mask over the call; it looks for our cache in the call and touches nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from keyvalise import flow
from keyvalise.host import hooks
from keyvalise.host.layer import Draft, MemoryLayer
from keyvalise.store import layer as store
from keyvalise.store.roll import Roll
from keyvalise.types.data import Call, Memory, Piece, Stretch
from keyvalise.types.errors import HostError

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache


class DenseLayer(MemoryLayer):
    """Gives the model dense keys and values of everything it holds.

    Rows are left-aligned and zero behind their ends; without a mask of our own, padding counts as tokens.
    """

    waiting: tuple[Call, bool] | None = None
    stretch: Stretch | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Append the new entries and return all, [B, H, T, D] and [B, H, T, Dv] in the model's dtype."""
        self.shared.enter(self.index)
        self.settle()
        self.confirm()
        if self.memory is None:
            env, river = self.shared.layer(self.index, key_states, key_states, value_states, {})
            self.begin(store.born(key_states.shape[0]), env, river)
        assert self.memory is not None and self.env is not None and self.river is not None
        width = key_states.shape[2]
        stretch = self.shared.stretch or Stretch.whole(width, self.memory.clock)
        is_prompt = self.shared.is_prompt(self.columns, width)
        awaits_end = self.awaits_end(is_prompt, width)
        if self.shared.is_drafting and self.river.has_decode_stages:
            raise HostError("recipes that drop while decoding cannot take drafts back on this model")
        end = self.shared.prompt_columns
        if end is not None and self.columns < end < self.columns + width and self.river.has_prompt_stages:
            raise HostError(
                "this model attends before a recipe can drop, and the prompt ends inside a forward; "
                "let a forward end with the prompt"
            )
        piece = Piece(key_states, key_states, value_states, stretch, is_prompt)
        call = Call(piece, self.spans(stretch, is_prompt))
        grown = store.append(self.memory, piece, self.env.geometry.dtype, self.river.angle)
        self.waiting = call, awaits_end
        self.took(call, flow.Passed(value_states[:, :, :0], grown, ()), awaits_end)
        entries = Roll.of(grown).entries
        return entries.keys().to(key_states.dtype), entries.values().to(value_states.dtype)

    def settle(self) -> None:
        """Let the stages of the last call act, now that the model has attended."""
        waiting, self.waiting = self.waiting, None
        if waiting is None or self.memory is None or self.env is None or self.river is None:
            return
        call, awaits_end = waiting
        if not awaits_end:
            self.act_late(self.memory, call)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        self.settle()
        return self.columns + query_length, 0

    def crop(self, tokens_to_remove: int) -> None:
        if self.draft is None or (tokens_to_remove and not self.draft.awaits_end):
            # What was brought has not been acted on yet, so taking it back only shortens the tail.
            if self.draft is None and tokens_to_remove and self.waiting and self.waiting[0].piece.is_prompt:
                self.settle()
            self.waiting = None
        MemoryLayer.crop(self, tokens_to_remove)

    def _taken_back(self, draft: Draft, accepted: int) -> Memory:
        """The value before the draft and what was accepted, on which nothing has acted yet."""
        if draft.awaits_end or not accepted:
            return MemoryLayer._taken_back(self, draft, accepted)
        assert self.env is not None and self.river is not None
        self.columns, piece = draft.columns, draft.call.piece.cut(0, accepted)
        self.waiting = Call(piece, self.spans(piece.stretch, piece.is_prompt)), False
        before = draft.before if self.shared.is_forked else store.reclaimed(draft.before)
        return store.append(before, piece, self.env.geometry.dtype, self.river.angle)


def install(model: Any, cache_type: type[KVCache]) -> None:
    """Lay our mask over calls that carry our cache, and settle the cache when they end."""
    hooks.install(
        model,
        "mask",
        cache_type,
        lambda cache, call: {"attention_mask": cache.dense_mask(call)},
        lambda cache, output: cache.settle(),
    )


def laid_mask(lengths: tuple[int, ...], stretch: Stretch, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, S, T] for left-aligned rows: everything stored, and the new tokens causally.

    lengths   entries per row before the call; T = the longest row after it
    """
    ends = [length + n for length, n in zip(lengths, stretch.counts, strict=True)]
    slot = torch.arange(max(ends))
    column = torch.arange(stretch.width)
    limits = [length + column - lead for length, lead in zip(lengths, stretch.leads, strict=True)]
    visible = slot <= torch.stack(limits)[..., None]
    # A padding query must see something, or its softmax divides by zero; nobody reads its output.
    visible[..., 0] = True
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]
