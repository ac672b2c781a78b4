"""What is refused, done: every way to misuse a recipe, a cache, a model or a file."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache, Recipe
from keyvalise.host import assets, taps
from keyvalise.store import asset
from keyvalise.types.geometry import Geometry
from tests.support import drive
from tests.support.models import tiny


def recipe(text: str) -> Callable[[], Any]:
    return lambda: KVCache(tiny("llama"), text)


def json(data: Any) -> Callable[[], Any]:
    return lambda: Recipe.from_json(data)


def odd() -> Geometry:
    """A model whose heads have an odd size."""
    return replace(KVCache(tiny("llama")).shared.geometry, key_dim=15)


def stored(*widths: int, rows: int = 1, model: Any = None, text: str = "full") -> KVCache:
    """A cache that has seen calls of these widths."""
    model = model or tiny("llama")
    cache = KVCache(model, text)
    drive.run(model, cache, drive.text(*[sum(widths)] * rows).calls(*widths))
    return cache


def torn() -> None:
    model = tiny("llama")
    cache, call = KVCache(model), drive.text(9).calls(9)[0]
    hook = model.model.layers[2].register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    try:
        drive.run(model, cache, [call])
    except KeyboardInterrupt:
        hook.remove()
    drive.run(model, cache, [call])


def holes() -> None:
    ids = drive.text(9).ids
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1, 1]])
    tiny("llama")(ids, attention_mask=mask, past_key_values=KVCache(tiny("llama")))


def ready_made(family: str) -> Callable[[], Any]:
    def call() -> None:
        mask = torch.zeros(1, 1, 9, 9)
        tiny(family)(drive.text(9).ids, attention_mask=mask, past_key_values=KVCache(tiny(family)))

    return call


def other_rows() -> None:
    drive.run(tiny("llama"), stored(9, 1), drive.text(10, 10).calls(9, 1)[1:])


def not_causal() -> None:
    """A layer whose mask function is another than the causal one."""
    cache = stored(9)
    layer = cache.shared.layers[0]
    seam = SimpleNamespace(query=torch.zeros(1, 8, 3, 16), keys=torch.zeros(1, 4, 3, 16))
    layer.attend(seam, SimpleNamespace(is_causal=False, has_padding=False))


def compiled() -> None:
    model = torch.compile(tiny("llama"), backend="eager")
    drive.run(model, KVCache(tiny("llama")), drive.text(9).calls(9))


def drafted_on_latents() -> None:
    model = tiny("deepseek_v3")
    cache = KVCache(model, "streaming @ 9tok")
    cache.activate_past_recording()
    drive.run(model, cache, drive.text(9).calls(9))


def ends_inside_on_latents() -> None:
    model = tiny("deepseek_v3")
    cache = KVCache(model, "knorm @ 9tok")
    cache.prompt_ends(20)
    drive.run(model, cache, drive.text(23).calls(23))


def drafted_over_layers() -> None:
    cache = KVCache(tiny("llama"), "normxlogit @ 9tok")
    cache.activate_past_recording()
    drive.run(tiny("llama"), cache, drive.text(20).calls(20))


def nobody_marked() -> None:
    """A recipe for a span of the text, and a text without one."""
    drive.run(tiny("llama"), KVCache(tiny("llama"), "plphp(only=image) @ 40%"), drive.text(20).calls(20))


def embeddings_without_ids() -> None:
    """A call that brings embeddings to a cache whose parts read token ids."""
    cache = SimpleNamespace(recipe="…", shared=SimpleNamespace(wanted={"ids"}))
    taps._before(cache, {"inputs_embeds": torch.zeros(1, 3, 64)}, None)


def unknown_rotation(layout: Callable[..., Any] | None) -> Callable[[], Any]:
    """A model whose way of turning keys is not known: none to be found, or neither of the two."""

    def build() -> None:
        model = tiny("llama")
        module = __import__(type(model).__module__, fromlist=["apply_rotary_pos_emb"])
        before = module.apply_rotary_pos_emb
        try:
            if layout is None:
                del module.apply_rotary_pos_emb
            else:
                module.apply_rotary_pos_emb = layout
            KVCache(model, "expected @ 50%")
        finally:
            module.apply_rotary_pos_emb = before

    return build


def growing_rotation() -> None:
    """A model whose angles change with the length of the text."""
    config = copy.deepcopy(tiny("llama").config)
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    KVCache(type(tiny("llama"))(config), "streaming(positions=slot)")


class Words:
    """A tokenizer that knows numbers."""

    def __call__(self, text: str, **options: Any) -> Any:
        ids = [5 + int(word) for word in text.split()]
        return SimpleNamespace(input_ids=torch.tensor([ids]) if options.get("return_tensors") else ids)

    def decode(self, ids: Any, **options: Any) -> str:
        return " ".join(str(i) for i in ids)


def answer(document: str, questions: Any) -> Callable[[], Any]:
    return lambda: keyvalise.answer(tiny("llama"), Words(), document, questions)


def bytes_of_codes() -> None:
    model = tiny("llama")
    drive.run(model, KVCache(model, "int4(group=8) @ 9KiB"), drive.text(300).calls(300))


def from_queries() -> None:
    model = tiny("llama")
    stock = DynamicCache(config=model.config)
    drive.run(model, stock, drive.text(9).calls(9))
    KVCache.from_dynamic(stock, model, "snapkv @ 50%")


def heads(activation: str = "silu", **matrices: torch.Tensor) -> Callable[[], Any]:
    """A recipe that takes retaining heads with these matrices in place of the right ones."""

    def call() -> None:
        right = {"fc1": torch.ones(3, 24, 256), "fc2": torch.ones(3, 4, 24)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "heads"
            asset.write(path, asset.Asset("retaining", {**right, **matrices}, {"activation": activation}))
            KVCache(tiny("llama"), f"locret(head='{path}')")

    return call


def book(scale: float = 1.0, **header: Any) -> Callable[[], Any]:
    """A recipe that takes a codebook with other words in its header, or numbers times a scale."""

    def call() -> None:
        model = tiny("llama")
        right = asset.read(assets.find("pq", model))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "book"
            tensors = {name: scale * tensor for name, tensor in right.tensors.items()}
            asset.write(path, asset.Asset(right.kind, tensors, {**right.header, **header}))
            KVCache(model, f"pq(codebook='{path}')")

    return call


def profile(content: str | bytes, end: int | None = None) -> Callable[[], Any]:
    """A recipe that takes a file with this content, or its beginning, as a profile."""

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "profile"
            path.write_bytes((content if isinstance(content, bytes) else content.encode())[:end])
            KVCache(tiny("llama"), f"duo(profile='{path}')")

    return build


def ours(kind: str = "heads", shape: tuple[int, ...] = (3, 4), **header: Any) -> bytes:
    """The bytes of an asset of ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        asset.write(path, asset.Asset(kind, {"heads": torch.ones(shape)}, header))
        return path.read_bytes()


def moved_away(read: Callable[[Path], Any]) -> Callable[[], Any]:
    """A file that is gone when it is opened."""
    return lambda: read(Path(tempfile.gettempdir()) / "keyvalise" / "nothing")
