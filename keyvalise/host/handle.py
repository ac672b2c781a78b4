"""The layer that hands out handles: the usual case, in which query, keys and padding meet in one function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from keyvalise import flow
from keyvalise.host.attention import Handle, MaskInfo, Seam
from keyvalise.host.layer import DRAFT_WINDOW, MemoryLayer
from keyvalise.store import layer as store
from keyvalise.store.null import Null
from keyvalise.types.data import Call, Memory, Piece
from keyvalise.types.errors import HostError


class KVLayer(MemoryLayer):
    """Gives the model a handle in place of keys and values, and answers the attention call that follows."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Store nothing yet: the attention call that follows brings the queries along."""
        self.shared.enter(self.index)
        handle = Handle(self, key_states, value_states)
        return handle, handle

    def attend(self, seam: Seam, mask: MaskInfo) -> Tensor:
        """Answer the call [B, S, Hq, Dv] in the query's dtype and take it into the memory."""
        if not self.is_known:
            self._start(seam)
        self.confirm()
        assert self.memory is not None and self.river is not None and self.env is not None
        if seam.query.shape[2] == 1 and self._is_quiet(mask):
            answer = store.step(self.memory, seam.query, seam.keys, seam.values, self.env)
            if answer is not None:
                out, self.memory = answer
                self.columns += 1
                self._show(seam)
                return out.to(seam.query.dtype).transpose(1, 2)
        if len(self.memory.clock) != seam.query.shape[0]:
            raise HostError(
                f"the cache holds {len(self.memory.clock)} rows, the call brings {seam.query.shape[0]}"
            )
        if not mask.is_causal and not store.is_unread(self.memory):
            raise HostError(
                "this model asks for a mask that is not causal, which a KVCache serves in one call only"
            )
        if self.river.reader is not None and self.river.reader.reads_all:
            self.shared.foresee(self.index)
        call, awaits_end = self._call(seam, mask, self.memory)
        passed = flow.advance(self.memory, call, self.bed(call.piece.stretch))
        self.took(call, passed, awaits_end)
        self._show(seam)
        return passed.out.to(seam.query.dtype).transpose(1, 2)

    def _show(self, seam: Seam) -> None:
        if self.shared.watch is not None and self.memory is not None:
            self.shared.watch(self.index, seam.query, self.memory)

    def _is_quiet(self, mask: MaskInfo) -> bool:
        """Whether one more token changes nothing but the tail: nobody observes, decides or codes at it."""
        assert self.memory is not None and self.river is not None
        if (
            self.shared.is_drafting
            or mask.has_padding
            or (self.shared.prompt_columns is not None and (self.columns < self.shared.prompt_columns))
        ):
            return False
        if not self.river.is_quiet or len(self.memory.clock) != mask.n_rows:
            return False
        return self.river.code is None or store.raw_length(self.memory) < self.river.code.residual

    def _start(self, seam: Seam) -> None:
        """Take over what only a real call shows: shapes, scale, soft cap, learned sinks."""
        env, river = self.shared.layer(self.index, seam.query, seam.keys, seam.values, seam.options)
        sinks = seam.options.get("s_aux")
        frozen = () if sinks is None else (Null(sinks, seam.values.shape[-1]),)
        memory = self.memory or store.born(seam.query.shape[0])
        self.begin(replace(memory, segments=(*frozen, *memory.segments)), env, river)
        self.is_known = True

    def _call(self, seam: Seam, mask: MaskInfo, memory: Memory) -> tuple[Call, bool]:
        width = seam.query.shape[2]
        stretch = mask.stretch(memory.clock)
        is_prompt = self.shared.is_prompt(self.columns, width)
        awaits_end = self.awaits_end(is_prompt, width)
        careful = None
        if self.shared.is_drafting and not awaits_end:
            careful = max(
                width - DRAFT_WINDOW, (self.shared.prompt_end(self.columns, width) or 0) - self.columns
            )
        piece = Piece(seam.query, seam.keys, seam.values, stretch, is_prompt, taps=dict(self.shared.taps))
        return Call(piece, self.spans(stretch, is_prompt), seam.native, careful), awaits_end
