"""Compiled kernels before they are needed, so that what the first use costs is seen and told."""

from __future__ import annotations

import time
from typing import Any

from keyvalise.cli.screen import Screen
from keyvalise.reference import loading

LONG_S = 2.0
"""Seconds above which it is worth a word."""


def loaded(name: str, device: str, screen: Screen) -> tuple[Any, Any]:
    """A model and its tokenizer, and what decoding on it needs compiled, or read from disk."""
    with screen.status("loading"):
        model, tokenizer = loading.model(name, device)
    _prepare(model, screen)
    return model, tokenizer


def _prepare(model: Any, screen: Screen) -> None:
    from keyvalise.ops.fast import choose, decode

    if model.device.type != "cpu" or not decode.is_installed() or choose.is_forbidden():
        return
    begin = time.perf_counter()
    with screen.status("preparing kernels"):
        decode.warm([model.dtype] if model.dtype in decode.WORKERS else [])
    took_s = time.perf_counter() - begin
    if took_s > LONG_S:
        screen.remark(f"kernels were compiled in {took_s:.0f} s; next time they are read from disk")
