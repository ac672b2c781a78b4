"""What holds for every code: bytes as declared, errors as derived, entries that can leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.encode.grouped import GroupedEncode, Int2Encode, Int4Encode, Int8Encode
from keyvalise.encode.hqq import HqqEncode
from keyvalise.encode.kivi import KiviEncode
from keyvalise.encode.narrow import Fp8Encode
from keyvalise.encode.plain import Fp16Encode
from keyvalise.encode.vector import VectorEncode
from keyvalise.ops import affine, hqq
from keyvalise.types.code import Codes
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry
from tests.support import coding
from tests.unit.builders import make_env, make_geometry, random

CODES = [
    Int8Encode(),
    Int4Encode(),
    Int4Encode(channels=7),
    Int2Encode(),
    KiviEncode(),
    KiviEncode(bits=4, group=7),
    KiviEncode(bits=8, group=1),
    HqqEncode(),
    HqqEncode(bits=3, channels=7),
    HqqEncode(bits=1),
    VectorEncode(),
    VectorEncode(bits=5),
    VectorEncode(bits=4, second=3),
    Fp16Encode(),
    Fp8Encode(),
]
ONE_LEVEL = [code for code in CODES if not getattr(code, "second", 0)]
"""A second level of codes has no level where the first left nothing, so coding again moves a number a
little.
"""
DIMS = [(63, 63), (130, 33), (10, 130)]


def geometry_of(dims: tuple[int, int]) -> Geometry:
    return Geometry(4, 8, 4, *dims, torch.bfloat16, 0.1)


def entries(code: Any, dims: tuple[int, int], n: int = 3) -> tuple[Tensor, Tensor]:
    """n groups (7 rows where tokens share nothing); the third channel of the keys is an outlier."""
    n_rows = n * code.group if code.group > 1 else 7
    keys, values = random(n_rows, dims[0], seed=1), random(n_rows, dims[1], seed=2)
    keys[:, 2] += 50
    return keys, values


def n_bytes(codes: Codes) -> int:
    tensors = (*codes.entry.values(), *codes.group.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("code", CODES)
def test_bytes_are_what_is_declared(code: Any, dims: tuple[int, int]) -> None:
    geometry = geometry_of(dims)
    keys, values = entries(code, dims)
    codes = coding.encode(code, Env(0, geometry), keys, values)
    assert n_bytes(codes) == len(keys) * code.bytes_per_entry(geometry)
    shared = sum(tensor.nbytes for tensor in codes.group.values())
    assert shared == len(keys) // code.group * code.group_bytes(geometry)
    assert all(len(tensor) == len(keys) for tensor in codes.entry.values())
    assert all(len(tensor) == len(keys) // code.group for tensor in codes.group.values())


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("code", ONE_LEVEL)
def test_decoding_again_gives_the_same(code: Any, dims: tuple[int, int]) -> None:
    env = Env(0, geometry_of(dims))
    once = coding.again(code, env, *entries(code, dims))
    twice = coding.again(code, env, *once)
    assert torch.equal(once[0], twice[0]) and torch.equal(once[1], twice[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("code", CODES)
def test_decoded_in_the_dtype_asked_for_and_inputs_unchanged(code: Any, dtype: torch.dtype) -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = (x.to(dtype) for x in entries(code, (63, 63)))
    before = keys.clone(), values.clone()
    decoded = coding.decode(code, env, coding.encode(code, env, keys, values), dtype)
    assert decoded[0].dtype == decoded[1].dtype == dtype
    assert decoded[0].shape == keys.shape and decoded[1].shape == values.shape
    assert torch.equal(keys, before[0]) and torch.equal(values, before[1])


def within(x: Tensor, decoded: Tensor, spread: Tensor, bits: int) -> bool:
    """Half a step of the group's spread, and what float16 rounds off.

    The step loses up to 2⁻¹⁰ of itself, 2^bits − 1 times over, the offset 2⁻¹⁰ of the largest number.
    """
    step = spread / (2**bits - 1)
    limit = torch.maximum(step / 2, spread * 2.0**-10) + x.abs().amax() * 2.0**-10
    return bool(((x - decoded).abs() <= limit).all())


@pytest.mark.parametrize("code", CODES[:4])
def test_integers_err_by_half_a_step_of_their_token(code: GroupedEncode) -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = entries(code, (63, 63))
    decoded = coding.again(code, env, keys, values)
    for x, again in zip((keys, values), decoded, strict=True):
        assert within(x, again, x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True), code.bits)


@pytest.mark.parametrize("code", CODES[4:7])
def test_kivi_errs_by_half_a_step_of_a_channel_of_its_group(code: KiviEncode) -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = entries(code, (63, 63))
    again = coding.again(code, env, keys, values)[0]
    tokens = keys.view(-1, code.group, 63)
    spread = (tokens.amax(1, keepdim=True) - tokens.amin(1, keepdim=True)).expand_as(tokens).reshape_as(keys)
    assert within(keys, again, spread, code.bits)


def test_a_channel_of_outliers_costs_kivi_nothing_and_integers_much() -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = entries(KiviEncode(), (63, 63))
    errors = [
        (coding.again(code, env, keys, values)[0] - keys)[:, 3:].abs().mean()
        for code in (KiviEncode(), Int2Encode())
    ]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("code", CODES)
def test_entries_leave_one_by_one(code: Any) -> None:
    env = Env(0, geometry_of((63, 63)))
    codes = coding.encode(code, env, *entries(code, (63, 63)))
    whole = coding.decode(code, env, codes, torch.float32)
    n = len(whole[0])
    stay = torch.tensor([0, n // 2, n - 2, n - 1])
    group_of = stay // code.group if codes.group else None
    left = Codes({name: tensor[stay] for name, tensor in codes.entry.items()}, codes.group)
    decoded = coding.decode(code, env, left, torch.float32, group_of)
    assert torch.equal(decoded[0], whole[0][stay]) and torch.equal(decoded[1], whole[1][stay])


@pytest.mark.parametrize("code", CODES)
def test_groups_are_written_by_themselves(code: Any) -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = entries(code, (63, 63), n=4)
    half = len(keys) // 2 // code.group * code.group
    whole = coding.encode(code, env, keys, values)
    parts = [
        coding.encode(code, env, keys[:half], values[:half]),
        coding.encode(code, env, keys[half:], values[half:]),
    ]
    for where in ("entry", "group"):
        for name, tensor in getattr(whole, where).items():
            assert torch.equal(tensor, torch.cat([getattr(part, where)[name] for part in parts]))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_vector_errs_by_half_a_step_and_less_on_the_second_level(bits: int) -> None:
    env = Env(0, geometry_of((63, 63)))
    keys, values = random(70, 63, seed=1), random(70, 63, seed=2)
    spread = keys.amax(-1, keepdim=True) - keys.amin(-1, keepdim=True)
    rounding = keys.abs().amax() * 2.0**-10
    for second in (0, 1, 3):
        again = coding.again(VectorEncode(bits, second), env, keys, values)[0]
        step = spread / (2**bits - 1)
        limit = step / 2 if second == 0 else step / (2**second - 1) / 2
        assert bool(((again - keys).abs() <= limit * 1.01 + rounding).all())
        assert float((again - keys).abs().max()) > 0.3 * float(limit.min())


def test_own_ranges_err_less_than_one_for_all() -> None:
    env = Env(0, geometry_of((63, 63)))
    keys = random(70, 63, seed=1) * torch.logspace(-1, 1, 70)[:, None]
    again = coding.again(VectorEncode(4), env, keys, keys)[0]
    step = (keys.amax() - keys.amin()) / 15
    whole = ((keys - keys.amin()) / step).round() * step + keys.amin()
    assert float((again - keys).square().mean()) < 0.3 * float((whole - keys).square().mean())


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_hqq_never_errs_more_than_minimum_to_maximum_in_any_group(bits: int) -> None:
    """Heavy tails, where it helps most; the error is the one that it lowers."""
    x = random(200, 64, seed=3) ** 3
    errors = []
    for scales in (affine.fit(x, bits), hqq.fit(x, bits)):
        codes = affine.quantize(x, scales[:, :1], scales[:, 1:], bits)
        again = affine.dequantize(codes, scales[:, :1], scales[:, 1:])
        errors.append((x - again).abs().pow(0.7).mean(-1))
    assert bool((errors[1] <= errors[0]).all())
    assert float(errors[1].mean()) < (0.97 if bits > 1 else 1.0) * float(errors[0].mean())


def test_hqq_of_eight_bits_loses_next_to_nothing() -> None:
    env, keys = Env(0, geometry_of((63, 63))), random(70, 63, seed=1)
    assert float((coding.again(HqqEncode(bits=8), env, keys, keys)[0] - keys).norm() / keys.norm()) < 0.01


def test_eight_bits_with_an_exponent_err_by_a_sixteenth_of_each_number() -> None:
    env = Env(0, geometry_of((63, 63)))
    keys = random(70, 63, seed=1) ** 3
    keys[3] = 0
    again = coding.again(Fp8Encode(), env, keys, keys)[0]
    scale = keys.abs().amax(-1, keepdim=True) / 448
    assert bool(((again - keys).abs() <= keys.abs() / 16 * 1.01 + scale * 2.0**-9).all())
    assert not again[3].any()
    loud = coding.again(Fp8Encode(), env, keys * 1e5, keys)[0]
    assert bool(torch.isfinite(loud).all()) and float((loud - 1e5 * keys).norm() / loud.norm()) < 0.05


def test_half_precision_is_what_torch_rounds_to() -> None:
    env, keys = Env(0, geometry_of((63, 63))), 1e5 * random(70, 63, seed=1)
    again = coding.again(Fp16Encode(), env, keys, keys)[0]
    assert torch.equal(again, keys.clamp(-65504, 65504).half().float())


def test_no_entries_are_no_codes() -> None:
    env = make_env(make_geometry())
    for code in CODES[:4]:
        keys, values = coding.decode(
            code, env, coding.encode(code, env, torch.empty(0, 10), torch.empty(0, 10)), torch.float32
        )
        assert keys.shape == values.shape == (0, 10)


def test_a_group_larger_than_the_head_is_refused_and_the_default_adapts() -> None:
    geometry = geometry_of((32, 32))
    Int4Encode().check(geometry)
    Int4Encode(channels=32).check(geometry)
    with pytest.raises(BadArgument, match="group=33 is not allowed; group must be at most the head size 32"):
        Int4Encode(channels=33).check(geometry)
    HqqEncode().check(geometry)
    with pytest.raises(BadArgument, match="group=33 is not allowed; group must be at most the head size 32"):
        HqqEncode(channels=33).check(geometry)
