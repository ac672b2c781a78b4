"""What a stored cache was made with: architecture, shapes, rotary positions, weights, tokenizer.

Equal identities give equal caches; where two differ, the first differences are named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import transformers
from torch import Tensor

from keyvalise.host import model as models
from keyvalise.host import weights
from keyvalise.store import file
from keyvalise.types.errors import Damaged
from keyvalise.types.geometry import Geometry

LAYOUT = 2
"""Version of how a cache's content is laid out; a file of another layout is not read."""

IDLE = frozenset(
    """architectures bos_token_id chunk_size_feed_forward dtype eos_token_id id2label initializer_range
    is_encoder_decoder label2id num_labels output_attentions output_hidden_states pad_token_id problem_type
    return_dict tie_word_embeddings torch_dtype transformers_version use_cache""".split()
)
"""Settings of a configuration that no key or value depends on, or that the weights' digest covers."""

SHOWN = 3
"""Differences that a refusal names."""


@dataclass(frozen=True)
class Identity:
    """Of a model, and of the tokenizer where one is given.

    shapes     layers, heads, dimensions;  rope: settings, and the frequencies that the model really uses
    settings   the rest of its configuration;  adapters: what lies on top of the weights and is active
    weights    a digest of every byte of every weight;  host: version of the host library
    """

    architecture: str
    dtype: str
    shapes: Mapping[str, Any]
    rope: Mapping[str, Any]
    settings: Mapping[str, Any]
    adapters: tuple[str, ...]
    weights: str
    tokenizer: str | None
    host: str
    layout: int = LAYOUT

    @staticmethod
    def of(model: Any, tokenizer: Any = None) -> Identity:
        """Of a model as it is now.

        Raises   UnsupportedModel where its weights are not in memory
        """
        settings = dict(_flat(model.config.to_dict()))
        rope = {key: value for key, value in settings.items() if "rope" in key or "rotary" in key}
        return Identity(
            architecture=type(model).__name__,
            dtype=str(model.dtype).removeprefix("torch."),
            shapes=_shapes(model),
            rope=rope | _frequencies(model),
            settings={key: value for key, value in settings.items() if key not in rope},
            adapters=weights.adapters(model),
            weights=weights.digest(model),
            tokenizer=None if tokenizer is None else of_tokenizer(tokenizer),
            host=transformers.__version__,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Identity:
        """What `to_dict` wrote.

        Raises   Damaged where something is missing
        """
        try:
            made = Identity(**data)
        except TypeError as error:
            raise Damaged(f"the model of the cache file is not described: {error}") from None
        return replace(made, adapters=tuple(made.adapters))

    @property
    def key(self) -> str:
        """64 hexadecimal digits that differ for identities that differ."""
        text = json.dumps({**self.to_dict(), "host": None}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def differences(self, other: Identity, names: tuple[str, str] = ("the file", "this model")) -> list[str]:
        """What differs, in words, the most telling first; `names` of the two."""
        found = list(self._differing(other))
        return [f"{what}: {mine} in {names[0]}, {theirs} in {names[1]}" for what, mine, theirs in found]

    def _differing(self, other: Identity) -> Iterator[tuple[str, Any, Any]]:
        for name in ("architecture", "dtype"):
            if getattr(self, name) != getattr(other, name):
                yield name, getattr(self, name), getattr(other, name)
        for name in ("shapes", "rope", "settings"):
            is_strict = self.host == other.host or name == "shapes"
            yield from _unequal(getattr(self, name), getattr(other, name), is_strict)
        if self.adapters != other.adapters:
            yield "adapters", ", ".join(self.adapters) or "none", ", ".join(other.adapters) or "none"
        for name in ("weights", "tokenizer"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs and theirs is not None:
                yield f"digest of the {name}", (mine or "not told")[:12], theirs[:12]


def _unequal(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], is_strict: bool
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ; those that only one side knows too, where both sides know the same ones."""
    for key in dict.fromkeys((*mine, *theirs)):
        if not is_strict and not (key in mine and key in theirs):
            continue
        a, b = mine.get(key), theirs.get(key)
        if a != b and not (key.endswith("frequencies") and _near(a, b)):
            yield key, _said(a), _said(b)


def _near(a: Any, b: Any) -> bool:
    """Whether frequencies are the same but for the last bits of another device's arithmetic."""
    if a is None or b is None or len(a) != len(b):
        return False
    return torch.allclose(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=0.0)


def _said(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}…"


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that count, nested ones under dotted names."""
    for key, value in data.items():
        if str(key) in IDLE or str(key).startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.loads(json.dumps(value, default=str), parse_constant=str)


def _shapes(model: Any) -> dict[str, Any]:
    layers, is_latent = models.host_layers(model), models.seam_of(model) == "latent"
    geometry = Geometry.of(models.text_config(model), is_latent=is_latent)
    return {
        "number of layers": len(layers),
        "layers whose cache grows": list(models.handled(layers)),
        "number of query heads": geometry.n_query_heads,
        "number of kv heads": geometry.n_kv_heads,
        "size of keys": geometry.key_dim,
        "size of values": geometry.value_dim,
    }


def _frequencies(model: Any) -> dict[str, list[float]]:
    """The inverse frequencies of rotary modules; where they change with length, those they start from."""
    kinds = str(getattr(models.text_config(model), "rope_parameters", ""))
    start = "original_" if "dynamic" in kinds or "longrope" in kinds else ""
    found = {
        name: buffer.detach().float().cpu().tolist()
        for name, buffer in model.named_buffers()
        if name.endswith("inv_freq") and ("original_" in name) == bool(start)
    }
    return {f"{name} frequencies": value for name, value in found.items()}


def of_tokenizer(tokenizer: Any) -> str:
    """A digest of how text becomes ids: the serialized form, without what calls leave behind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        form = json.loads(backend.to_str())
        form = {key: value for key, value in form.items() if key not in ("truncation", "padding")}
    else:
        form = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    form["special"] = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    form["chat"] = getattr(tokenizer, "chat_template", None)
    text = json.dumps(form, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def of_assets(fixed: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """name → a digest of the tensors that a recipe reads beside the model."""
    found = {}
    for name, tensors in fixed.items():
        lines = [
            file.digest(key, str(tensor.dtype), tensor.shape, file.raw(tensor))
            for key, tensor in sorted(tensors.items())
        ]
        found[name] = hashlib.blake2b("".join(lines).encode(), digest_size=32).hexdigest()
    return found
