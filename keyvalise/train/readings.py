"""What every layer's heads hold and ask while the model reads a text, as a code or transform would be given
it.

Knows which transforms stand before the part that is trained; the model is only read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.ops import rope
from keyvalise.train.attention import Seam, served
from keyvalise.types.code import Fitted, Transform, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True)
class Reading:
    """One layer on one text: queries [Hq, T, D] as the model turns them, keys [H, T, D] on the side that was
    asked for, values [H, T, Dv]; float32.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor


Take = Callable[[int, Reading], None]
"""Is handed every layer's number among the handled ones, and its reading."""


@dataclass(frozen=True)
class Reader:
    """A model and the transforms behind which a part is trained.

    is_turned_back   keys are wanted before the rotary embedding;  fixed: what the transforms' assets hold
    """

    model: Any
    before: tuple[Transform, ...] = ()
    is_turned_back: bool = False
    fixed: Mapping[str, Mapping[str, Tensor]] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The model's layers that a recipe handles."""
        return models.handled(models.host_layers(self.model))

    @property
    def geometry(self) -> Geometry:
        """What the part is given."""
        shape = Geometry.of(models.text_config(self.model), torch.float32, max(len(self.layers), 1))
        for part in self.before:
            shape = part.shape(shape)
        return shape

    def read(self, ids: Tensor, take: Take) -> None:
        """Read a text int64 [1, T] and hand every handled layer on, the first one first.

        Raises   UnsupportedModel where the model does not ask the attention interface
        """
        layers = self.layers

        def attend(seam: Seam) -> Tensor:
            if seam.layer in layers:
                with torch.no_grad():
                    take(layers.index(seam.layer), self._reading(seam))
            return seam.native()

        with served(self.model, attend), torch.no_grad():
            self.model.base_model(input_ids=ids, use_cache=False)

    def _reading(self, seam: Seam) -> Reading:
        keys, values = seam.keys[0].float(), seam.values[0].float()
        shape = Geometry.of(models.text_config(self.model), torch.float32, len(self.layers))
        turn = models.rope_of(self.model, shape, seam.layer) if self.is_turned_back else None
        if turn is not None:
            turn = replace(turn, frequencies=turn.frequencies.to(keys.device))
            keys = rope.unrotate(keys, torch.arange(keys.shape[1], device=keys.device), turn)
        env = Env(self.layers.index(seam.layer), shape, turn, fixed=self.fixed or {})
        keys, values = given(self.before, env, keys, values)
        return Reading(seam.query[0].float(), keys, values)


def given(before: Sequence[Transform], env: Env, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys [H, T, D] and values [H, T, Dv] of one row behind transforms, which are fitted to the row."""
    n_heads, n_tokens = keys.shape[:2]
    heads = torch.arange(n_heads, device=keys.device).repeat_interleave(n_tokens)
    where = Where(heads, heads)
    flat = keys.flatten(0, 1), values.flatten(0, 1)
    for part in before:
        home = part.fit(env, *flat, where, n_heads) if isinstance(part, Fitted) else {}
        inner = replace(env, geometry=part.shape(env.geometry))
        flat, env = part.forward(env, *flat, where, home), inner
    keys, values = (x.unflatten(0, (n_heads, n_tokens)) for x in flat)
    return keys, values


def drawn(n: int, share: int, seed: str) -> Tensor:
    """At most `share` of n numbers, ascending, the same for the same seed; the first is among them."""
    draws = torch.Generator().manual_seed(number(seed))
    rest = torch.randperm(n - 1, generator=draws)[: share - 1] + 1
    return torch.cat([torch.zeros(1, dtype=torch.long), rest.sort().values])


def number(words: str) -> int:
    """A seed that is the same for the same words."""
    return random.Random(words).getrandbits(63)
