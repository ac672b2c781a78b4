"""`KVCache`: a transformers cache whose growing layers are memories that follow a recipe."""

from __future__ import annotations

import copy
import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from keyvalise.host import attention, dense, exchange, frozen, hooks, ledger, slow, taps, thawed
from keyvalise.host import model as models
from keyvalise.host.dense import DenseLayer
from keyvalise.host.handle import KVLayer
from keyvalise.host.layer import MemoryLayer
from keyvalise.host.shared import Shared
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.store import file, streamed
from keyvalise.store import layer as store
from keyvalise.types.errors import InputError, UnsupportedModel
from keyvalise.types.scratch import Scratch


class KVCache(Cache):
    """Keys and values under a recipe; pass it to a model as `past_key_values`.

    recipe          a Recipe or its text;  dtype: of raw entries (default: the model's), which shares refer to
    prefill_chunk   take so many queries at a time inside one forward; the prompt's stages act after each
    seed            of the draws that random parts make
    host_memory     most bytes, or "8GiB", that readers may put there (default: 80 % of what is free)

    Raises   RecipeError, UnsupportedModel, AssetError where recipe, model and assets do not go together
    """

    origin: thawed.Origin | None = None
    """What the file says that the cache was read from."""

    def __init__(
        self,
        model: Any,
        recipe: str | Recipe = "full",
        *,
        dtype: torch.dtype | None = None,
        prefill_chunk: int | None = None,
        seed: int = 0,
        host_memory: int | str | None = None,
    ):
        recipe = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
        if prefill_chunk is not None and prefill_chunk < 1:
            raise InputError(f"prefill_chunk must be at least 1, got {prefill_chunk}")
        layers = models.host_layers(model)
        indices = models.handled(layers)
        self.shared = Shared.of(model, recipe, layers, dtype)
        self.shared.prefill_chunk, self.shared.seed = prefill_chunk, seed
        self.shared.slow = slow.of(host_memory)
        self.shared.kin.add(self)
        self._check(model, indices)
        seam = self.shared.seam
        kind = KVLayer if seam == "handle" else DenseLayer
        for index in indices:
            layers[index] = self.shared.layers[index] = kind(self.shared, index)
        Cache.__init__(self, layers=layers)
        if seam == "handle":
            attention.switch(models.text_config(model))
            taps.install(model, recipe.taps, KVCache)
        elif seam == "latent":
            dense.install(model, KVCache)

    def _check(self, model: Any, indices: tuple[int, ...]) -> None:
        """Build the recipe once for the model's shapes, so that what does not fit fails here."""
        name, recipe = type(model).__name__, self.recipe
        if self.shared.seam == "dense" and recipe.stages:
            raise UnsupportedModel(
                f"{name} computes attention without the attention interface, so dropped tokens cannot be "
                f"hidden from its masks; use full or an encoding such as int8 instead of {recipe}"
            )
        if self.shared.seam != "handle" and self.shared.prefill_chunk:
            raise UnsupportedModel(
                f"{name} hands no queries to a cache, so prefill_chunk cannot cut its forward"
            )
        compose(recipe, self.shared.geometry, self.shared.gives())
        if not indices:
            warnings.warn(
                f"no layer of {name} keeps a cache that grows; the recipe has nothing to act on", stacklevel=3
            )

    @property
    def recipe(self) -> Recipe:
        return self.shared.recipe

    @property
    def seen(self) -> int:
        """Columns that the cache has been shown, as `get_seq_length` counts."""
        return int(self.get_seq_length())

    @property
    def nbytes(self) -> int:
        """Bytes of all distinct storages that the cache holds, slack and metadata included."""
        self.settle()
        return ledger.total(self)

    def ledger(self) -> ledger.Ledger:
        """What lies where: per layer and kind of segment, the bytes of every field."""
        return ledger.Ledger.of(self)

    def settle(self) -> None:
        """Let everything act that waits for the end of a forward."""
        for layer in self.shared.layers.values():
            if isinstance(layer, DenseLayer):
                layer.settle()

    def dense_mask(self, call: Mapping[str, Any]) -> Tensor | None:
        """The 4D mask of a call on a model that wants plain tensors, from the call's 2D padding mask."""
        self.settle()
        given = call.get("attention_mask")
        tokens = call.get("input_ids") if call.get("input_ids") is not None else call.get("inputs_embeds")
        if given is not None and given.ndim == 4:
            raise InputError("a ready-made 4D mask cannot be applied to a KVCache; pass the 2D padding mask")
        assert tokens is not None, "the model itself refuses a call without tokens"
        n_rows, width = tokens.shape[:2]
        layer = next(iter(self.shared.layers.values()))
        clock = (0,) * n_rows if layer.memory is None else layer.memory.clock
        padding = None if given is None else given[:, -width:].bool()
        stretch = attention.stretch_of(padding, width, clock)
        lengths = (0,) * n_rows if layer.memory is None else store.row_lengths(layer.memory)
        self.shared.stretch = stretch
        return dense.laid_mask(lengths, stretch, self.shared.dtype).to(tokens.device)

    def prompt_ends(self, n: int) -> None:
        """Say at which column the prompt ends; `at prompt` stages act there, and nowhere else until the next
        call.
        """
        if n < self.seen:
            raise InputError(f"the prompt cannot end at {n}: {self.seen} tokens have been seen")
        self.shared.prompt_columns = n

    def span(self, name: str, start: int, end: int) -> None:
        """Give the columns start … end − 1 a name that parts can ask for; drop(only=name) drops no others."""
        if not 0 <= start < end:
            raise InputError(f"span {name!r} must satisfy 0 <= start < end, got {start} and {end}")
        self.shared.spans = {**self.shared.spans, name: (start, end)}

    @staticmethod
    def from_dynamic(cache: Cache, model: Any, recipe: str | Recipe = "full") -> KVCache:
        """A KVCache with the content of transformers' own cache, as a prompt that has just ended; nothing is
        shared.

        Raises   UnmetNeed where the recipe asks for queries, which such a cache does not hold
        """
        made = KVCache(model, recipe)
        compose(made.recipe, made.shared.geometry, frozenset({"keys", "values"}))
        exchange.take_dynamic(made, cache)
        return made

    def to_dynamic(self, attention_mask: Tensor | None = None) -> DynamicCache:
        """The same content as transformers' own cache, codes as what they stand for; nothing is shared.

        attention_mask   [B, columns], says where the tokens of padded rows stand

        Raises   HostError where tokens were dropped or weighted; InputError for padded rows without a mask
        """
        return exchange.to_dynamic(self, attention_mask)

    @staticmethod
    def from_kept(
        model: Any,
        keys: Sequence[exchange.Kept],
        values: Sequence[exchange.Kept],
        positions: Sequence[exchange.Kept],
        *,
        seen: int | Sequence[int],
        recipe: str | Recipe = "full",
    ) -> KVCache:
        """A KVCache of what another tool has kept; it goes on as if the rest had been masked out ever since.

        keys, values   per layer [B, H, T, D], or [row][kv head] → [T, D]; rotated as the model left them
        positions      likewise without D: every entry's place among the row's tokens, −1 for none
        seen           tokens that every row had seen;  recipe: acts from the next call on

        Raises   InputError where something does not fit together or to the model
        """
        made = KVCache(model, recipe)
        exchange.take_kept(made, keys, values, positions, seen)
        return made

    def save(
        self,
        uri: str | os.PathLike[str],
        *,
        tokenizer: Any = None,
        tokens: frozen.Tokens | None = None,
        salt: str = "",
        edits: Sequence[str] = (),
        level: str | None = None,
    ) -> None:
        """Publish the cache as one whole file, or leave what was there; what was drafted last stays.

        uri      a path, or file:///path;  tokens: ids that every row has seen, for whoever reads the file
        level    of the bitstream, from "lossless" to "smallest"; None: numbers as they are
        tokenizer, salt, edits   must be the same when the cache is loaded

        Raises   CacheFileError where it cannot be written or the model has changed meanwhile; UnknownName
        """
        told = frozen.described(self, tokenizer=tokenizer, tokens=tokens, salt=salt, edits=edits, level=level)
        file.open_uri(uri).publish(file.chunks(*told))

    @staticmethod
    def load(
        uri: str | os.PathLike[str],
        model: Any,
        *,
        tokenizer: Any = None,
        salt: str = "",
        edits: Sequence[str] = (),
        lazy: bool = False,
    ) -> KVCache:
        """The cache that was saved, for the model it was made for.

        lazy   read and verify every layer when it is first touched, in the forward at the latest

        Raises   CacheFileError: Damaged, OtherModel or FutureVersion, with what differs
        """
        stored = streamed.opened(file.open_uri(uri).source(), f"the cache {os.fspath(uri)}")
        return KVCache.of_stored(stored, model, tokenizer=tokenizer, salt=salt, edits=edits, lazy=lazy)

    @staticmethod
    def of_stored(
        stored: file.Stored,
        model: Any,
        *,
        tokenizer: Any = None,
        salt: str | None = None,
        edits: Sequence[str] | None = None,
        lazy: bool = False,
    ) -> KVCache:
        """The cache in a file that has been opened; salt and edits are not compared where they are None."""
        if not lazy:
            stored.hold()
        origin = thawed.check(stored, model, tokenizer, salt, edits)
        made = KVCache(model, **thawed.settings(stored))
        thawed.fill(made, stored, lazy)
        made.origin = origin
        return made

    def kept_positions(self, layer: int) -> list[list[list[int]]]:
        """[row][kv head] → ordinals of the stored entries of a handled layer, ascending, however they
        are written.
        """
        if layer not in self.shared.layers:
            raise InputError(f"layer {layer} is not handled; handled layers: {sorted(self.shared.layers)}")
        self.settle()
        memory = self.shared.layers[layer].memory
        return [] if memory is None or store.is_unread(memory) else store.positions(memory)

    def fork(self) -> KVCache:
        """A second cache with the same content; storages are shared until one of the two writes."""
        twin = copy.copy(self)
        twin.shared = copy.copy(self.shared)
        twin.shared.scratch = Scratch()
        self.shared.is_forked = twin.shared.is_forked = True
        twin.shared.kin.add(twin)
        twin.layers = [self._forked(twin.shared, layer) for layer in self.layers]
        twin.shared.layers = weakref.WeakValueDictionary({i: twin.layers[i] for i in self.shared.layers})
        return twin

    @staticmethod
    def _forked(shared: Shared, layer: Any) -> Any:
        twin = copy.copy(layer)
        if isinstance(twin, MemoryLayer):
            twin.shared = shared
        else:
            # The host's own layers rebind their tensors when they grow, except recurrent states.
            twin.__dict__.update({name: copy.deepcopy(value) for name, value in vars(layer).items()})
        return twin

    def rows(self, index: Tensor | Sequence[int]) -> KVCache:
        """A cache whose row i is this cache's row index[i]; asks many questions of one document."""
        twin = self.fork()
        twin.batch_select_indices(torch.as_tensor(index, dtype=torch.long))
        return twin

    def activate_past_recording(self) -> None:
        self.shared.is_drafting = True
        Cache.activate_past_recording(self)

    def __repr__(self) -> str:
        return f"KVCache({str(self.recipe)!r}, seen={self.seen}, bytes={self.nbytes})"


def detach(model: Any) -> None:
    """Name the attention again that the model had before its first KVCache."""
    attention.unswitch(models.text_config(model))
    hooks.uninstall(model)
