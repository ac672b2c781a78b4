"""The bitstream's compiled loops against their definitions: the same symbols, bytes and floats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from keyvalise.ops import (
    bitstring,
    densities,
    echo,
    entropy,
    exact,
    fitted,
    floats,
    frequencies,
    ladder,
    principal,
    reflect,
    rope,
    steady,
    strips,
)
from keyvalise.ops import planes as plain_planes
from keyvalise.ops.fast import bitstring as fast_bitstring
from keyvalise.ops.fast import echo as fast_echo
from keyvalise.ops.fast import exact as fast_exact
from keyvalise.ops.fast import ladder as fast_ladder
from keyvalise.ops.fast import planes, product, rans, turned
from keyvalise.ops.fast import reflect as fast_reflect
from keyvalise.ops.fast import strips as fast_strips
from keyvalise.types.geometry import Rope

SIZES = pytest.mark.parametrize("n", [0, 1, 7, 63, 130, entropy.MANY + 5])


def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols that were drawn from the bells that their contexts name."""
    rng = np.random.default_rng(n)
    contexts = rng.integers(0, densities.FAMILIES * densities.SCALES, n)
    draws = rng.integers(0, frequencies.TOTAL, n)
    return (densities.tables().cumulative[contexts] <= draws[:, None]).sum(1) - 1, contexts


@SIZES
def test_both_coders_write_the_same_words(n: int) -> None:
    symbols, contexts = drawn(n)
    tables = densities.tables()
    data = rans.encode(symbols, contexts, tables)
    assert data == entropy.encode(symbols, contexts, tables)
    assert np.array_equal(rans.decode(data, contexts, tables), symbols)
    assert np.array_equal(entropy.decode(data, contexts, tables), symbols)


@pytest.mark.parametrize("n", [130, 20_011])
def test_both_coders_reach_the_entropy_of_the_symbols(n: int) -> None:
    rng = np.random.default_rng(n)
    contexts = rng.integers(0, 3, n)
    symbols = np.abs(np.rint(rng.laplace(size=n) * (1 + contexts))).astype(np.int64).clip(0, 60)
    tables = frequencies.empirical(symbols, contexts, 3)
    bits = 0.0
    for context in range(3):
        share = np.bincount(symbols[contexts == context]) / max((contexts == context).sum(), 1)
        bits -= (contexts == context).sum() * (share[share > 0] * np.log2(share[share > 0])).sum()
    lanes = entropy.n_lanes(n)
    for coder in (rans, entropy):
        assert bits <= 8 * len(coder.encode(symbols, contexts, tables)) <= 1.01 * bits + lanes * (33 + 24)


def test_a_changed_message_is_noticed_or_gives_other_symbols() -> None:
    symbols, contexts = drawn(entropy.MANY + 5)
    data = rans.encode(symbols, contexts, densities.tables())
    for at in range(20, len(data), len(data) // 40):
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        try:
            found = rans.decode(changed, contexts, densities.tables())
        except ValueError:
            continue
        assert not np.array_equal(found, symbols)


@pytest.mark.parametrize("has_echo", [False, True])
@pytest.mark.parametrize(("rank", "n"), [(0, 7), (7, 0), (1, 1), (13, 63), (31, 130)])
def test_strips_are_the_same_codes(rank: int, n: int, has_echo: bool) -> None:
    near = echo.find(np.arange(n) % 11 // 2) if has_echo else None
    rng = np.random.default_rng(rank)
    sizes = 60 * np.exp(-np.arange(rank) / max(rank, 1) * 7)
    codes = np.rint(rng.standard_t(2, size=(rank, n)) * sizes[:, None]).astype(np.int32)
    for i in range(22, n):
        codes[:, i] = codes[:, i - 11] if i % 2 else codes[:, i]
    plan = fitted.plan(codes, near)
    packed = strips.pack(codes, plan, near)
    assert np.array_equal(strips.unpack(packed, plan, n, near), codes)
    assert np.array_equal(fast_strips.unpack(packed, plan, n, near), codes)
    for name in ("message", "low", "escapes"):
        if n > 1 and (run := getattr(packed, name)[4:]):
            with pytest.raises(ValueError, match=r"fit|end|missing|short"):
                fast_strips.unpack(dataclasses.replace(packed, **{name: run}), plan, n, near)


def test_too_many_symbols_for_a_message_are_refused_before_room_is_made() -> None:
    plan = strips.Plan(np.zeros(7, np.int64), np.zeros(7, np.uint8), np.zeros(8, np.int64))
    with pytest.raises(ValueError, match="too short"):
        fast_strips.unpack(strips.Packed(bytes(9), b"", b""), plan, 10**12)


@pytest.mark.parametrize(("dim", "rank"), [(1, 1), (7, 3), (63, 63), (130, 40)])
def test_bases_are_the_same_bits(dim: int, rank: int) -> None:
    mix = np.random.default_rng(dim).normal(size=(dim, dim))
    _, vectors = np.linalg.eigh(mix @ mix.T)
    bits = principal.precision(np.geomspace(20, 0.01, rank))
    numbers = reflect.fit(vectors[:, :rank], bits)
    assert np.array_equal(fast_reflect.basis(numbers, dim, bits), reflect.basis(numbers, dim, bits))


@pytest.mark.parametrize(("dim", "rank", "n"), [(7, 3, 63), (63, 130, 300), (5, 0, 7)])
def test_products_are_the_same_bits(dim: int, rank: int, n: int) -> None:
    rng = np.random.default_rng(n)
    turn, y = rng.normal(size=(dim, rank)).astype(np.float32), rng.normal(size=(rank, n)).astype(np.float32)
    assert np.array_equal(product.product(turn, y), steady.product(turn, y))


@pytest.mark.parametrize("n", [0, 1, 7, 777])
def test_low_bits_are_the_same_bytes(n: int) -> None:
    rng = np.random.default_rng(n)
    values, widths = rng.integers(0, 2**24, n), rng.integers(0, 25, n)
    data = fast_bitstring.pack(values, widths)
    assert data == bitstring.pack(values, widths)
    assert np.array_equal(fast_bitstring.unpack(data, widths), bitstring.unpack(data, widths))
    with pytest.raises(ValueError, match="cannot hold"):
        fast_bitstring.unpack(data + b"\0", widths)


def test_numbers_of_codes_are_the_same_bits() -> None:
    codes = np.random.default_rng(0).integers(-9, 10, (7, 130)).astype(np.int32)
    for centre in ((-20, -3), (0, 0), (127, -127)):
        assert np.array_equal(fast_ladder.restore(codes, 0.3, centre), ladder.restore(codes, 0.3, centre))


@pytest.mark.parametrize("mode", range(plain_planes.RAW))
def test_planes_are_the_same_symbols(mode: int) -> None:
    rng = np.random.default_rng(mode)
    before = rng.binomial(20, 0.5, (130, 7)).astype(np.uint8)
    plane = (before + rng.binomial(3, 0.2, (130, 7))).astype(np.uint8)
    limits = plain_planes.borders(plane)
    contexts = plain_planes.contexts(plane, mode, before, limits)
    n = plain_planes.n_contexts(mode, 7)
    tables = frequencies.empirical(plane.ravel(), contexts.ravel(), n)
    message = rans.encode(plane.ravel(), contexts.ravel(), tables)
    assert np.array_equal(planes.read(message, tables, mode, limits, before), plane)


@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize("width", [0, 6, 10])
@pytest.mark.parametrize("heads_turn", [1, 3])
def test_laying_out_is_gathering_and_turning(width: int, is_interleaved: bool, heads_turn: int) -> None:
    rng = np.random.default_rng(width)
    x, mean = rng.normal(size=(7, 30)).astype(np.float32), rng.normal(size=30).astype(np.float32)
    rows, places = rng.integers(0, 7, 63), torch.from_numpy(rng.integers(0, 999, (heads_turn, 63)))
    spec = Rope(torch.rand(width // 2), is_interleaved, 1.3)
    want = torch.from_numpy((x[rows] + mean).reshape(63, 3, 10)).transpose(0, 1)
    angles = None
    if width:
        cos, sin = spec.angles(places)
        angles = (cos * 1.3).numpy(), (sin * 1.3).numpy()
        want = rope.apply(want, places, spec)
    found = turned.lay_out(x, rows, mean, 3, angles=angles, is_interleaved=is_interleaved)
    assert np.abs(found - want.numpy()).max() <= 4e-7 * want.abs().max()


FORMS = {"bf16": floats.BFLOAT16, "fp16": floats.FLOAT16, "fp32": floats.FLOAT32}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("n", [0, 1, 63, entropy.MANY + 5])
def test_exact_numbers_are_the_same_words(form: floats.Form, n: int) -> None:
    rng = np.random.default_rng(n)
    words = rng.integers(0, 2 ** (1 + form.mantissa + form.exponent), n).astype(form.dtype)
    if n > 63:
        words[:2000] = words[:2000] & form.dtype.type(2 ** (form.mantissa + 3) - 1) | form.dtype.type(
            form.bias << form.mantissa
        )
    p = (4 * rng.normal(size=n)).astype(np.float32)
    p[: n // 9] = np.nan
    s = rng.integers(-30, 30, n).astype(np.int32)
    packed = exact.pack(words, p, s, form)
    assert np.array_equal(exact.unpack(packed, p, s, form), words)
    assert np.array_equal(fast_exact.unpack(packed, p, s, form), words)
    for name in ("message", "escapes", "gaps", "fields", "low", "listed"):
        if n > 1 and (run := getattr(packed, name)[4:]) and len(run) + 4 == len(getattr(packed, name)):
            with pytest.raises(ValueError, match=r"fit|end|missing|cut"):
                fast_exact.unpack(dataclasses.replace(packed, **{name: run}), p, s, form)


@pytest.mark.parametrize(("dim", "n"), [(0, 7), (7, 0), (7, 63), (130, 33)])
def test_flipping_is_transposing(dim: int, n: int) -> None:
    rng = np.random.default_rng(n)
    y, scale = rng.normal(size=(dim, n)).astype(np.float32), rng.normal(size=dim).astype(np.float32)
    assert np.array_equal(turned.flip(y, scale), y.T * scale)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 63, 1300])
@pytest.mark.parametrize("most", [1, 3, 40, 10**9])
def test_echoes_are_the_same(n: int, most: int) -> None:
    ids = np.random.default_rng(n).integers(0, most, n)
    ids[n // 2 :] = ids[: n - n // 2]
    want, found = echo.find(ids), fast_echo.find(ids)
    assert np.array_equal(found.of, want.of) and np.array_equal(found.depth, want.depth)
