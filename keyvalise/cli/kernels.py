"""Compiled kernels before they are needed, so that what the first use costs is seen and told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from keyvalise.cli.screen import Screen
from keyvalise.reference import loading

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

LONG_S = 2.0
"""Seconds above which it is worth a word."""

SLOWER = "{0} is not installed, so that attention over what is stored is torch's, which is slower"
"""Nothing is wrong, but somebody may wonder."""


def loaded(name: str, device: str, recipe: Recipe, screen: Screen) -> tuple[Any, Any]:
    """A model and its tokenizer, and what decoding on it needs compiled, or read from disk."""
    with screen.status("loading"):
        model, tokenizer = loading.model(name, device)
    prepare(model, recipe, screen)
    return model, tokenizer


def prepare(model: Any, recipe: Recipe, screen: Screen) -> None:
    """Compile what decoding on this model needs, or say what is missing for it."""
    from keyvalise.ops.fast import affine, choose, choosing, decode, mass, nearest, scan
    from keyvalise.ops.fast import legible as compiled
    from keyvalise.ops.fast.gpu import legible as on_device

    if choose.is_forbidden() or model.device.type not in ("cpu", "cuda"):
        return
    if model.device.type == "cuda":
        screen.warn(*[] if on_device.is_installed() else [SLOWER.format("triton")])
    elif not compiled.is_installed():
        screen.warn(SLOWER.format("numba"))
    elif model.dtype in compiled.KINDS:
        begin = time.perf_counter()
        with screen.status("preparing kernels"):
            codes = _of_codes(recipe)
            decode.warm([compiled.KINDS[model.dtype], *codes])
            if "integers" in codes:
                affine.warm()
            if any(part.room in ("observe", "score") for part in recipe.parts):
                mass.warm()
            if recipe.reader is not None:
                scan.warm(model.dtype)
                choosing.warm()
                nearest.warm()
        took_s = time.perf_counter() - begin
        if took_s > LONG_S:
            screen.remark(f"kernels were compiled in {took_s:.0f} s; next time they are read from disk")


def _of_codes(recipe: Recipe) -> list[str]:
    """The kernels that read what the recipe writes."""
    from keyvalise.types.written import Integral, Lexical

    protocols = {"integers": Integral, "codewords": Lexical}
    return [kind for kind, one in protocols.items() if any(isinstance(part, one) for part in recipe.parts)]
