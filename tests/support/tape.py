"""A tape of one cache: the forwards that it went through, what was held, and what was done between them.

Whoever makes the calls (a test, `generate`) knows nothing of the tape; so the same calls can be made anew
with the full cache, whatever the mode was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from keyvalise.store.roll import Roll
from tests.support import drive, oracle

OPERATIONS = (
    "crop",
    "reorder_cache",
    "batch_select_indices",
    "batch_repeat_interleave",
    "activate_past_recording",
)
Operation = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Contents:
    """What one layer reads from: keys, values [B, H, T, D]; the column of every entry [B, H, T], −1: none."""

    keys: Tensor
    values: Tensor
    columns: Tensor

    def write_(self, layer: Any) -> None:
        """Put them in the place of what a layer of the full cache holds."""
        row, head, slot = torch.nonzero(self.columns >= 0, as_tuple=True)
        column = self.columns[row, head, slot]
        for name, held in (("keys", self.keys), ("values", self.values)):
            full = getattr(layer, name).clone()
            full[row, head, column] = held[row, head, slot].to(full.dtype)
            setattr(layer, name, full)


@dataclass(frozen=True)
class Step:
    """One forward; `before`: what was held when it began; `done`: what happened since the forward before.

    logits     [B, n, V] of the last n columns
    contents   layer → what it read from, where the cache writes codes
    """

    call: drive.Call
    logits: Tensor
    before: oracle.Before
    done: tuple[Operation, ...]
    contents: dict[int, Contents]

    @property
    def real(self) -> Tensor:
        """bool [B, n]: the columns of `logits` that are not padding."""
        return self.call.real[:, -self.logits.shape[1] :]

    def prepare(self, cache: Any) -> None:
        """Bring the full cache to where this forward began."""
        for name, arguments in self.done:
            getattr(cache, name)(*arguments)
        for i, contents in self.contents.items():
            contents.write_(cache.layers[i])


@dataclass
class Tape:
    """All forwards of a model that carry one cache."""

    cache: Any
    steps: list[Step] = field(default_factory=list)
    done: list[Operation] = field(default_factory=list)
    begun: tuple[oracle.Before, dict[int, Contents]] = field(
        default_factory=lambda: (oracle.Before({}, {}), {})
    )

    def before(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("past_key_values") is self.cache and isinstance(self.cache, KVCache):
            self.begun = (
                oracle.Before(drive.held(self.cache), drive.weights(self.cache)),
                read(self.cache) if self.cache.recipe.code is not None else {},
            )

    def after(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("past_key_values") is not self.cache:
            return
        ids = (args[0] if args else kwargs["input_ids"]).clone()
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if mask is None:
            mask = ids.new_ones(ids.shape[0], self.cache.get_seq_length())
        if positions is None:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        call = drive.Call(ids, mask.clone(), positions.clone())
        self.steps.append(Step(call, output.logits.clone(), self.begun[0], tuple(self.done), self.begun[1]))
        self.done = []

    def note(self, name: str) -> Callable[..., None]:
        """A method of the cache that leaves a note on the tape."""
        method = getattr(self.cache, name)

        def noted(*arguments: Any) -> None:
            self.done.append((name, arguments))
            method(*arguments)

        return noted

    @property
    def crops(self) -> list[int]:
        """How many columns were taken back each time."""
        operations = [one for step in self.steps for one in step.done] + self.done
        return [-arguments[0] for name, arguments in operations if name == "crop"]

    def columns(self) -> tuple[list[int], list[Tensor | None]]:
        """(ids, logits [V] or None) of the columns that were not taken back; of a cache with one row."""
        ids: list[int] = []
        logits: list[Tensor | None] = []
        for step in self.steps:
            taken = sum(-arguments[0] for name, arguments in step.done if name == "crop")
            ids, logits = ids[: len(ids) - taken], logits[: len(logits) - taken]
            unknown = step.call.ids.shape[1] - step.logits.shape[1]
            ids += step.call.ids[0].tolist()
            logits += [None] * unknown + list(step.logits[0])
        taken = sum(-arguments[0] for name, arguments in self.done if name == "crop")
        return ids[: len(ids) - taken], logits[: len(logits) - taken]


@contextmanager
def recording(model: Any, cache: Any) -> Iterator[Tape]:
    """The tape of what happens to a cache inside the block."""
    tape = Tape(cache)
    for name in OPERATIONS:
        setattr(cache, name, tape.note(name))
    hooks = (
        model.register_forward_pre_hook(tape.before, with_kwargs=True),
        model.register_forward_hook(tape.after, with_kwargs=True),
    )
    try:
        with torch.no_grad():
            yield tape
    finally:
        for hook in hooks:
            hook.remove()
        for name in OPERATIONS:
            delattr(cache, name)


def read(cache: KVCache) -> dict[int, Contents]:
    """What every handled layer would read from now, codes decoded."""
    found = {}
    for i, layer in cache.shared.layers.items():
        if layer.memory is None:
            continue
        entries = Roll.of(layer.memory).entries
        pads = torch.tensor([layer.columns - seen for seen in layer.memory.clock])[:, None, None]
        columns = torch.where(entries.live, entries.ordinals + pads, -1)
        found[i] = Contents(entries.keys().clone(), entries.values().clone(), columns)
    return found


def replay(model: Any, steps: Sequence[Step], *, hides: bool) -> list[Tensor]:
    """Logits [B, n, V] of the same forwards through the full cache, with what was not held hidden from it."""
    calls = [step.call for step in steps]
    between = [step.prepare for step in steps]
    if hides:
        logits = oracle.masked(model, calls, [step.before for step in steps], between)
    else:
        keyvalise.detach(model)
        cache, logits = DynamicCache(config=model.config), []
        for call, prepare in zip(calls, between, strict=True):
            prepare(cache)
            logits += drive.run(model, cache, [call]).logits
    return [made[:, -step.logits.shape[1] :] for made, step in zip(logits, steps, strict=True)]
