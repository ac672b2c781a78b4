"""Where device kernels run, what they refuse, and that nobody imports triton before it is needed.

Without a CUDA device the kernels are interpreted on the CPU, which must be said before triton is imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from keyvalise.ops import affine
from keyvalise.ops.fast import choose
from keyvalise.ops.fast.gpu import decode, legible, mass, sizes
from keyvalise.types.written import Integers
from tests.unit.builders import make_entries, make_geometry, make_piece

IS_LATE = "triton" in sys.modules and not legible.is_interpreted()
if not torch.cuda.is_available():
    os.environ.setdefault(legible.VARIABLE, "1")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def ready(name: str) -> torch.device:
    """The device, if kernels run there; else the test is skipped."""
    if found := _hindrance(name):
        pytest.skip(found)
    return torch.device(name)


@functools.cache
def _hindrance(name: str) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if name == "cuda":
        return f"{legible.VARIABLE} keeps kernels off the device" if legible.is_interpreted() else None
    if not legible.is_interpreted():
        return f"kernels run on the CUDA device; {legible.VARIABLE}=1 would interpret them here"
    if IS_LATE:
        return f"triton was imported before {legible.VARIABLE} was set"
    _hurry(importlib.import_module("triton.runtime.interpreter"))
    return None


def _hurry(interpreter: Any) -> None:
    """The interpreter prepares triton's modules anew at every call of a helper; once each is enough."""
    prepared: set[Callable[..., Any]] = set()

    def call(helper: Any, *args: Any, **kwargs: Any) -> Any:
        if helper.fn not in prepared:
            interpreter._patch_lang(helper.fn)
            prepared.add(helper.fn)
        return helper.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


def test_importing_does_not_load_triton() -> None:
    code = (
        "import sys, keyvalise.ops.attend, keyvalise.ops.fast.gpu.decode, keyvalise.ops.fast.gpu.mass\n"
        "sys.exit(any(x == 'triton' or x.endswith('gpu.language') for x in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_triton_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "is_installed", lambda: False)
    k = torch.randn(1, 2, 7, 16)
    assert not decode.available(k, k)
    with pytest.raises(ValueError, match="triton is not installed"):
        decode.dense(k, k, k, scale=1.0)


def test_on_the_cpu_only_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "is_installed", lambda: True)
    k = torch.randn(1, 2, 7, 16)
    for word, is_on in (("1", True), ("true", True), ("0", False)):
        monkeypatch.setenv(legible.VARIABLE, word)
        assert decode.available(k, k) is is_on
    assert "CUDA device, got cpu" in str(legible.flaw(k, k))
    assert "one device; got cpu, meta" in str(legible.flaw(k, k.to("meta")))


def test_it_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "flaw_at", lambda *_: None)
    k, side = torch.randn(1, 2, 7, 16), Integers(*affine.encode_rows(torch.randn(40, 32), 4, 32), 4, 32)
    asked = torch.randn(1, 6, 1, 16), make_entries(k)
    assert decode.available(k, k) and decode.reads(side, side) and mass.available(*asked)
    monkeypatch.setattr(choose, "_forced", lambda: False)
    assert not decode.available(k, k) and not decode.reads(side, side) and not mass.available(*asked)


@pytest.mark.parametrize(
    ("hip", "capability", "message"), [("6", (9, 0), "not for ROCm"), (None, (7, 5), "8.0 or more")]
)
def test_a_device_must_be_able(
    hip: str | None, capability: tuple[int, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: capability)
    assert message in str(legible._flaw_of_device.__wrapped__(torch.device("cuda")))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (8, 6))
    assert legible._flaw_of_device.__wrapped__(torch.device("cuda")) is None


def test_what_cannot_be_read_is_refused() -> None:
    ready("cpu")
    q, k = torch.randn(1, 2, 1, 16), torch.randn(1, 2, 7, 16)
    wide = torch.zeros(1, 2, 7, 513)
    for keys, values, message in (
        (k.double(), k.double(), "must both be float32"),
        (k, k.half(), "must both be float32"),
        (k.transpose(2, 3).contiguous().transpose(2, 3), k, "stride 1"),
        (k, k[:, :, :5], "differ in entries"),
        (k[..., :8], k, "do not fit"),
        (wide, k, "1 to 512; got 513, 16"),
    ):
        with pytest.raises(ValueError, match=message):
            decode.dense(q, keys, values, scale=1.0)
    with pytest.raises(ValueError, match="2 lengths for 1 rows"):
        decode.dense(q, k, k, lengths=torch.tensor([1, 2]), scale=1.0)
    with pytest.raises(ValueError, match="do not fit 3 runs"):
        decode.ragged(q, k[0, 0], k[0, 0], offsets=torch.tensor([0, 2, 4, 7]), scale=1.0)


def test_integers_that_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "flaw_at", lambda *_: None)
    side = Integers(*affine.encode_rows(torch.randn(40, 32), 4, 32), 4, 32)
    assert decode.reads(side, side)
    for other, message in (
        (replace(side, codes=side.codes.flip(0)[::2]), "contiguous"),
        (replace(side, scales=side.scales.float()), "scales float16"),
        (replace(side, scales=side.scales[..., :1]), "groups, 2"),
        (replace(side, scales=side.scales[:39]), "has no scales"),
        (replace(side, row_of=torch.zeros(40, dtype=torch.int64)), "int32"),
        (replace(side, codes=side.codes.short()), "must be bytes"),
        (replace(side, bits=3, codes=side.codes[:, :12]), "1, 2, 4 or 8 bits; got 3"),
        (replace(side, dim=1024), "1 to 512"),
    ):
        assert message in str(legible.flaw_of(other))
        assert not decode.reads(other, side) and not decode.reads(side, other)
        with pytest.raises(ValueError, match=message):
            decode.coded(torch.randn(1, 1, 1, 32), side, other, offsets=torch.tensor([0, 40]), scale=1.0)


def test_entries_that_cannot_be_weighed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legible, "flaw_at", lambda *_: None)
    geometry, entries = make_geometry(dim=16), make_entries(torch.randn(1, 2, 7, 16))
    q = torch.randn(1, 6, 1, 16, dtype=torch.float64)
    assert mass.available(q.float(), entries) and not mass.available(q, entries)
    with pytest.raises(ValueError, match="queries and keys must be"):
        mass.column_sums(geometry, make_piece(q, (7,), torch.zeros(1, 6, 1)), entries)
    with pytest.raises(ValueError, match="queries and keys must be"):
        mass.window_mass(geometry, q, torch.tensor([[7]]), entries)
    with pytest.raises(ValueError, match="do not fit keys"):
        mass.window_mass(geometry, q.float()[..., :9], torch.tensor([[7]]), entries)


@pytest.mark.parametrize("is_narrow", [True, False])
@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 16, 33, 500])
@pytest.mark.parametrize("width", [16, 128, 256, 512])
def test_sizes_fit(width: int, n_rows: int, is_narrow: bool) -> None:
    for n_entries, n_processors in ((7, 1), (130, 132), (10**6, 16), (10**8, 132)):
        found = sizes.decode(n_entries, n_rows, width=width, is_narrow=is_narrow, n_processors=n_processors)
        powers = (found.rows, found.block, found.warps)
        assert all(n & (n - 1) == 0 for n in powers) and found.chunk % found.block == 0
        assert found.block >= 16 and (found.rows >= 16 or found.product is sizes.Product.SUMS)
        assert found.rows >= min(n_rows, 32)
        n_programs = -(-n_entries // found.chunk) * -(-n_rows // found.rows)
        assert n_programs <= sizes.WAVES * n_processors + -(-n_rows // found.rows)
        bytes_each = 2 if is_narrow else 4
        assert found.block * width * bytes_each * 2 * found.stages <= 128 * 1024


def test_lanes_hold_every_channel() -> None:
    for dim in (1, 7, 16, 20, 80, 128, 130):
        for bits in (1, 2, 4, 8):
            width, plane = sizes.lanes(dim, bits), -(-dim * bits // 8)
            assert width & (width - 1) == 0 and width >= max(16, dim)
            assert width * bits // 8 >= plane
    assert [sizes.power(n, 1) for n in (0, 1, 2, 3, 63, 64, 65)] == [1, 1, 2, 4, 64, 64, 128]
    assert sizes.power(3) == 16 and sizes.power(100, 16, 64) == 64
