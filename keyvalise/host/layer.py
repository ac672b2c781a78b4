"""One attention layer of a KVCache, as transformers sees it: columns, rows, drafts and crops.

Knows when a call may still be taken back; what happens to the entries is `flow.py`'s business.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from keyvalise import flow
from keyvalise.confluence import Parked
from keyvalise.host import unread
from keyvalise.recipe.river import Bed
from keyvalise.store import layer as store
from keyvalise.store.roll import Roll
from keyvalise.types.data import Call, Env, Memory, Piece, Stretch
from keyvalise.types.errors import HostError, InputError
from keyvalise.types.when import Span

if TYPE_CHECKING:
    from keyvalise.host.shared import Shared
    from keyvalise.recipe.river import LayerRiver

DRAFT_WINDOW = 64
"""Tokens at the end of a call that drafts may take back one by one."""


@dataclass(frozen=True)
class Draft:
    """A call that may still be taken back: where it began, what it carried, and the values at its cuts.

    values     (memory, columns of the call before it) at every cut
    out        where the call mixed a prompt with drafts, its output: only the crop that follows tells where
               the prompt ended, and the call is then taken once more up to there
    """

    before: Memory
    columns: int
    call: Call
    values: tuple[tuple[Memory, int], ...]
    out: Tensor | None

    @property
    def awaits_end(self) -> bool:
        return self.out is not None


class MemoryLayer(CacheLayerMixin):
    """Holds one memory. `shared` is what all layers of a cache have in common, `index` the layer's number.

    Subclasses say how a call comes in: with its queries (`KVLayer`), or as keys and values alone
    (`DenseLayer`).
    """

    is_sliding = False
    is_croppable = True
    is_compileable = False
    supports_early_init = False

    def __init__(self, shared: Shared, index: int):
        CacheLayerMixin.__init__(self)
        self.shared, self.index = shared, index
        self.memory = None
        self.river: LayerRiver | None = None
        self.env: Env | None = None
        self.columns = 0
        self.draft: Draft | None = None
        self.is_known = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    memory = cached_property(unread.read)

    def begin(self, memory: Memory, env: Env, river: LayerRiver) -> None:
        """Take the place and the rules of this layer, which the first call shows."""
        self.memory, self.env, self.river = memory, env, river
        self.is_initialized = True

    def bed(self, stretch: Stretch | None = None) -> Bed:
        """The river's bed for a call that brings this stretch, None: that is in the memory already.

        Raises   InputError where nobody has marked a span that the recipe is for
        """
        assert self.river is not None and self.env is not None
        missing = [name for name in self.shared.recipe.spans if name not in self.shared.spans]
        if missing:
            raise InputError(
                f"{self.shared.recipe} drops inside the span {missing[0]!r} alone, and nobody has marked it; "
                f"call cache.span({missing[0]!r}, start, end) before the text comes"
            )
        spans = self.marked(stretch) if self.shared.spans else {}
        env = replace(self.env, spans=spans) if spans else self.env
        return Bed(self.river, env, self.shared.scratch)

    def marked(self, stretch: Stretch | None = None) -> dict[str, tuple[tuple[int, int], ...]]:
        """The spans of every row, turned from columns into ordinals; `stretch` as for a bed."""
        assert self.memory is not None
        clock = self.memory.clock
        stretch = stretch or Stretch.whole(0, clock)

        def ordinal(column: int, row: int) -> int:
            new = column - self.columns
            if new < 0:
                return max(new + clock[row], 0)
            inside = min(max(new - stretch.leads[row], 0), stretch.counts[row])
            return clock[row] + inside + max(new - stretch.width, 0)

        return {
            name: tuple((ordinal(first, row), ordinal(end, row)) for row in range(len(clock)))
            for name, (first, end) in self.shared.spans.items()
        }

    def take_over(self, keys: Tensor, values: Tensor) -> None:
        """Start from keys [B, H, T, D] and values [B, H, T, Dv] that another cache has held, as a whole
        prompt.
        """
        env, river = self.shared.layer(self.index, keys, keys, values, {})
        n_rows, _, width, _ = keys.shape
        self.begin(store.born(n_rows), env, river)
        assert self.memory is not None
        piece = Piece(keys, keys, values, Stretch.whole(width, self.memory.clock), True)
        span = Span(0, width, width, self.shared.prefill_chunk, width)
        grown = store.append(self.memory, piece, env.geometry.dtype, river.angle)
        self.columns = width
        self.act_late(grown, Call(piece, (span,) * n_rows))

    def act_late(self, memory: Memory, call: Call) -> None:
        """Let the stages of a call act on a memory that holds it whole."""
        self.memory, parked = flow.late(memory, call, self.bed())
        if parked:
            self.shared.waiting[self.index] = Parked(self.memory, call.piece, parked, self.bed())
        self.shared.done(self.index)

    def notes(self) -> list[str]:
        """What the ledger should say of this layer beside its bytes."""
        if self.memory is None or self.river is None:
            return []
        return self.river.notes(self.memory, self.marked())

    def came_to(self) -> list[str]:
        """What parts that find out for themselves how much is kept have found for the first row."""
        if self.memory is None or self.river is None or not store.longest(self.memory):
            return []
        env = replace(self.bed().env, seen=self.memory.clock, prompt=self.memory.prompt)
        view = (env, Roll.of(self.memory).entries, self.memory.stats)
        return [part.came_to(view) for part in self.river.telling(self.memory.stats.keys())]

    def took(self, call: Call, passed: flow.Passed, awaits_end: bool) -> None:
        """Remember the memory after a call, and while drafting also how to take the call back."""
        assert self.memory is not None and self.river is not None
        if self.shared.is_drafting and (passed.parked or (awaits_end and self.river.has_joint_stages)):
            raise HostError(
                "a stage that looks at all layers cannot take drafts back; read the prompt before drafting"
            )
        if self.shared.is_drafting:
            ends = itertools.accumulate(piece.stretch.width for _, piece in passed.values)
            values = tuple((value, end) for (value, _), end in zip(passed.values, ends, strict=True))
            out = passed.out if awaits_end else None
            self.draft = Draft(self.memory, self.columns, replace(call, native=None), values, out)
        self.memory = passed.memory
        self.columns += call.piece.stretch.width
        if passed.parked:
            parked = Parked(passed.memory, passed.values[-1][1], passed.parked, self.bed())
            self.shared.waiting[self.index] = parked
        self.shared.done(self.index)

    def awaits_end(self, is_prompt: bool, width: int) -> bool:
        """Whether a drafting call mixes a prompt with drafts, so that only the next crop tells the prompt's
        end.
        """
        assert self.river is not None
        is_unknown = self.shared.is_drafting and self.shared.prompt_end(self.columns, width) is None
        return is_prompt and is_unknown and self.river.has_prompt_stages

    def spans(self, stretch: Stretch, is_prompt: bool) -> tuple[Span, ...]:
        """Per row, where the call's prompt ends."""
        return tuple(self._span(stretch, row, is_prompt) for row in range(len(stretch.starts)))

    def _span(self, stretch: Stretch, row: int, is_prompt: bool) -> Span:
        start, lead, n = stretch.starts[row], stretch.leads[row], stretch.counts[row]
        end = self.shared.prompt_end(self.columns, stretch.width)
        chunk = self.shared.prefill_chunk
        if end is None:
            return Span(start, n, None, chunk, 0, is_prompt)
        inside = min(max(end - self.columns - lead, 0), n)
        beyond = max(end - self.columns - stretch.width, 0)
        last = start + inside + beyond
        is_known = chunk is not None or self.shared.prompt_columns is not None
        return Span(start, n, last, chunk, last if is_known else 0, is_prompt)

    def get_seq_length(self) -> int:
        return self.columns

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        kept = 0 if self.memory is None else store.longest(self.memory)
        return kept + query_length, self.columns - kept

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.memory, self.draft, self.columns = None, None, 0
        self.is_known = self.is_initialized = False

    def confirm(self) -> None:
        """No crop came: what the last call drafted stays."""
        draft, self.draft = self.draft, None
        if draft is not None and draft.awaits_end:
            self.memory = self._ended(draft, draft.call.piece.stretch.width)

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last columns: exactly where the last call was a draft, else by ordinal.

        Beyond a draft the entries leave by their ordinals; accumulated statistics stay as they are.
        """
        n = -tokens_to_remove
        if n < 0:
            raise ValueError(f"crop takes a negative number of tokens to remove, got {tokens_to_remove}")
        if self.memory is None:
            return
        if n > self.columns:
            raise HostError(f"cannot take back {n} tokens, only {self.columns} were seen")
        draft, self.draft = self.draft, None
        target = self.columns - n
        if draft is not None and target >= draft.columns and (n or draft.awaits_end):
            self.memory = self._taken_back(draft, target - draft.columns)
        elif n:
            self.memory = store.cropped(self.memory, n)
        self.columns = target

    def _taken_back(self, draft: Draft, accepted: int) -> Memory:
        """The value at the last cut within the accepted columns, plus what was accepted behind it."""
        assert self.river is not None and self.env is not None
        if draft.awaits_end:
            return self._ended(draft, accepted)
        memory, begin = draft.before, 0
        for value, end in draft.values:
            if end > accepted:
                break
            memory, begin = value, end
        if begin == accepted:
            return memory if self.shared.is_forked else store.reclaimed(memory)
        if self.river.has_cuts:
            # Deeper than the careful cuts reach there is no value to return to.
            assert self.memory is not None
            return store.cropped(self.memory, draft.call.piece.stretch.width - accepted)
        rest = draft.call.piece.cut(begin, accepted)
        memory = memory if self.shared.is_forked else store.reclaimed(memory)
        return store.append(memory, rest, self.env.geometry.dtype, self.river.angle)

    def _ended(self, draft: Draft, accepted: int) -> Memory:
        """The first call once more up to the accepted end, which is where its prompt ended."""
        assert self.river is not None and self.env is not None
        piece = draft.call.piece.cut(0, accepted)
        ends = piece.stretch.ends
        spans = tuple(
            replace(span, prompt_end=end, n=end - span.start)
            for span, end in zip(draft.call.spans, ends, strict=True)
        )
        before = draft.before if self.shared.is_forked else store.reclaimed(draft.before)
        assert draft.out is not None
        out = draft.out[:, :, :accepted]
        call = replace(draft.call, piece=replace(piece, out=None, find_lse=None), spans=spans, careful=None)
        call = replace(call, native=lambda: out)
        memory = flow.advance(before, call, self.bed()).memory
        self.shared.done(self.index)
        return memory

    def activate_past_recording(self) -> None:
        self.shared.is_drafting = True

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.memory is not None:
            self._select(torch.arange(len(self.memory.clock)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.memory is not None:
            rows = torch.arange(len(self.memory.clock), device=indices.device)
            self._select(rows[indices])

    def _select(self, index: Tensor) -> None:
        self.confirm()
        if self.memory is not None:
            is_over = self.river is not None and self.river.is_over(self.shared.prompt_columns is not None)
            self.memory = store.rows(self.memory, index.to(store.device(self.memory)), is_over)
