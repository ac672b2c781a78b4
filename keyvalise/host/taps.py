"""What the attention function never sees, for the parts that ask: token ids, embeddings, final states.

    ids            int64 [B, S]        the tokens of the call
    hidden:embed   float [B, S, E]     what the embedding made of them
    hidden:final   float [B, S, E]     what the trunk returned, its last norm included

Token ids are forgotten when the call ends; states are kept until the prompt ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from keyvalise.host import hooks
from keyvalise.types.errors import HostError

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache


def install(model: Any, wanted: frozenset[str], cache_type: type[KVCache]) -> None:
    """Bring every call's tokens and states to the caches that want them."""
    if wanted:
        embed = model.get_input_embeddings()
        hooks.install(model, "taps", cache_type, lambda cache, call: _before(cache, call, embed), _after)


def _before(cache: KVCache, call: Mapping[str, Any], embed: Any) -> dict[str, Any]:
    wanted, ids, states = cache.shared.wanted, call.get("input_ids"), call.get("inputs_embeds")
    if "ids" in wanted:
        if ids is None:
            raise HostError(f"{cache.recipe} reads token ids, this call brings embeddings; pass input_ids")
        cache.shared.taps["ids"] = ids
    if "hidden:embed" in wanted:
        _remember(cache.shared.states, "hidden:embed", embed(ids) if states is None else states)
    return {}


def _after(cache: KVCache, output: Any) -> None:
    if "hidden:final" in cache.shared.wanted:
        _remember(cache.shared.states, "hidden:final", output[0])
        cache.shared.join()
    cache.shared.taps.clear()
    end = cache.shared.prompt_columns
    if end is None or cache.get_seq_length() >= end:
        cache.shared.states.clear()


def _remember(states: dict[str, Tensor], name: str, new: Tensor) -> None:
    """Put the states of a call behind those of the calls before."""
    before = states.get(name)
    states[name] = new.detach() if before is None else torch.cat([before, new.detach()], 1)
