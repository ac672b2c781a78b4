"""What the layers of one cache have in common: recipe, prompt end, drafts, forks; no layer knows another."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C._dynamo.eval_frame import get_eval_frame_callback

from keyvalise import confluence
from keyvalise.confluence import Parked
from keyvalise.host import assets, purpose, weights
from keyvalise.host import model as models
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.river import LayerRiver
from keyvalise.store import indexing
from keyvalise.types.data import Env, Memory, Stretch
from keyvalise.types.errors import HostError, TornForward
from keyvalise.types.geometry import Geometry, Rope
from keyvalise.types.part import HOST_GIVES, TAPS
from keyvalise.types.scratch import Scratch
from keyvalise.types.slow import Slow

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache
    from keyvalise.host.layer import MemoryLayer


@dataclass
class Shared:
    """Settings of one cache, and the few facts about the call that all its layers must agree on.

    layers    of the cache, which holds them; weak, so that a dropped cache is freed at once; first: the
              lowest of their numbers
    fixed     tensors of assets by name;  weights: of the model, by layer and name
    kin       this cache and those forked from it, which may hold the same storages
    taps      of the call that is going on;  states: of all calls of the prompt so far
    lend      changes the rivers of layers before they begin, for measuring
    watch     is shown every layer's number, queries and memory after every call, for inspection
    waiting   layers whose stages look at all layers;  scratch: what a layer leaves for the next
    dtype     in which the model computes;  stretch: the real tokens of the call that a dense layer is about
              to see
    slow      the tiers in which a reader may let entries lie
    model     weak, with a glance at its weights when the cache was made, for whoever stores the cache
    """

    recipe: Recipe
    geometry: Geometry
    ropes: dict[int, Rope | None]
    seam: models.Seam = "handle"
    dtype: torch.dtype = torch.float32
    first: int = 0
    prefill_chunk: int | None = None
    seed: int = 0
    fixed: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    weights: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    taps: dict[str, Tensor] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)
    waiting: dict[int, Parked] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)
    prompt_columns: int | None = None
    is_drafting: bool = False
    lend: Callable[[LayerRiver], LayerRiver] | None = None
    watch: Callable[[int, Tensor, Memory], None] | None = None
    is_forked: bool = False
    stretch: Stretch | None = None
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    model: Callable[[], Any] = lambda: None
    glance: int = 0
    slow: Slow = field(default_factory=Slow)
    kin: weakref.WeakSet[KVCache] = field(default_factory=weakref.WeakSet)
    layers: weakref.WeakValueDictionary[int, MemoryLayer] = field(default_factory=weakref.WeakValueDictionary)

    @staticmethod
    def of(model: Any, recipe: Recipe, layers: Sequence[Any], dtype: torch.dtype | None) -> Shared:
        """The settings of a new cache over the host's `layers`, with what the recipe asks of the model.

        dtype   of raw entries, by default the model's
        """
        seam, indices = models.seam_of(model), models.handled(layers)
        geometry = Geometry.of(
            models.text_config(model), dtype or model.dtype, max(len(indices), 1), is_latent=seam == "latent"
        )
        shared = Shared(recipe, geometry, {}, seam, model.dtype, first=min(indices, default=0))
        shared.model, shared.glance = weakref.ref(model), weights.glance(model)
        if recipe.needs_rope:
            shared.ropes = {index: models.rope_of(model, geometry, index) for index in indices}
        if recipe.weights:
            shared.weights = {i: models.weights_of(model, i, recipe.weights, geometry) for i in indices}
        wanted = purpose.of(recipe)
        shared.fixed = assets.of(recipe.assets, model, geometry, indices, len(layers), purposes=wanted)
        return shared

    def gives(self) -> frozenset[str]:
        """What this host offers to parts."""
        if self.seam != "handle":
            return frozenset({"keys", "values"})
        ropes = [rope for rope in self.ropes.values() if rope is not None]
        turns = {"rope"} if ropes else set()
        own = {f"weight:{name}" for weights in self.weights.values() for name in weights}
        is_static = all(rope.is_static for rope in ropes)
        return HOST_GIVES | TAPS | own | turns | ({"rope:static"} if is_static else set())

    def enter(self, index: int) -> None:
        """Called before a layer takes a call in.

        Raises   TornForward where an earlier call stopped between two layers; HostError under torch.compile
        """
        if torch.compiler.is_compiling() or is_compiled():
            raise HostError("a KVCache cannot be traced by torch.compile; run the model eagerly")
        if index == self.first:
            self.slow.step()
            self.waiting.clear()
            self.scratch.clear()
            self.check_whole()

    def check_whole(self) -> None:
        """Raise TornForward where an earlier call stopped between two layers."""
        columns = {layer.columns for layer in self.layers.values()}
        if len(columns) > 1 or self.waiting:
            raise TornForward(
                f"an earlier forward stopped half way: the layers have seen {min(columns)} to {max(columns)} "
                "tokens; make a new cache"
            )

    def foresee(self, index: int) -> None:
        """While a layer answers, begin to bring near what the next one reads from a slow tier."""
        following = min((i for i in self.layers if i > index), default=None)
        memory = None if following is None else self.layers[following].memory
        if memory is not None:
            indexing.foresee(memory)

    def done(self, index: int) -> None:
        """Called when a layer has taken a call in. Behind the last one nobody asks what layers have left, and
        those that wait for the others go on, unless the final states are awaited.
        """
        if index < max(self.layers):
            return
        self.scratch.clear()
        if self.waiting and "hidden:final" not in self.wanted:
            self.join()
            self.scratch.clear()

    @property
    def wanted(self) -> frozenset[str]:
        """The taps that the recipe's parts want."""
        return self.recipe.taps

    def join(self) -> None:
        """Let the stages act that look at all layers."""
        parked, self.waiting = self.waiting, {}
        memories = confluence.meet(list(parked.values()), self.states)
        for index, memory in zip(parked, memories, strict=True):
            self.layers[index].memory = memory

    def layer(
        self, index: int, query: Tensor, keys: Tensor, values: Tensor, options: Mapping[str, Any]
    ) -> tuple[Env, LayerRiver]:
        """The surroundings of one layer, with the shapes that its first call shows."""
        softcap, scaling = options.get("softcap"), options.get("scaling")
        geometry = replace(
            self.geometry,
            n_query_heads=query.shape[1],
            n_kv_heads=keys.shape[1],
            key_dim=keys.shape[3],
            value_dim=values.shape[3],
            scale=float(scaling if scaling is not None else query.shape[3] ** -0.5),
            softcap=None if softcap is None else float(softcap),
        )
        return self.around(index, geometry, query.device)

    def around(self, index: int, geometry: Geometry, device: torch.device) -> tuple[Env, LayerRiver]:
        """The surroundings of one layer of these shapes."""
        number = list(self.layers).index(index)
        river = compose(self.recipe, geometry, self.gives()).at(number)
        river = river if self.lend is None else self.lend(river)
        rope = self.ropes.get(index)
        if rope is not None:
            rope = replace(rope, frequencies=rope.frequencies.to(device))
        own = self.weights.get(index, {})
        return Env(number, geometry, rope, self.seed, fixed=self.fixed, weights=own, slow=self.slow), river

    def device(self, index: int) -> torch.device:
        """Where a layer of the model computes."""
        return models.device_of(self.model(), index)

    def is_prompt(self, columns: int, width: int) -> bool:
        """Whether a call that begins behind `columns` belongs to a prompt."""
        if self.prompt_columns is not None:
            return columns < self.prompt_columns
        if self.is_drafting:
            return columns == 0
        return width > 1

    def prompt_end(self, columns: int, width: int) -> int | None:
        """The column where the prompt ends, if this call belongs to a prompt whose end is known."""
        if self.prompt_columns is not None:
            return self.prompt_columns if columns < self.prompt_columns else None
        return columns + width if width > 1 and not self.is_drafting else None


def is_compiled() -> bool:
    """Whether a compiled model runs this call: tracing steps aside where it meets a refusal, and the frame
    then runs eagerly, so that only the frame's own evaluator still tells.
    """
    return get_eval_frame_callback() not in (None, False)
