"""nsnquant and commvq: bytes as declared, windows and entries by themselves, read as if decoded, any head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.encode.commvq import CommvqEncode
from keyvalise.encode.kivi import KiviEncode
from keyvalise.encode.nsn import NsnEncode
from keyvalise.ops import rope
from keyvalise.store import coded
from keyvalise.store.coded import Coded
from keyvalise.types.code import Codes, Direct, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import AssetError, BadArgument
from keyvalise.types.geometry import Geometry, Rope
from tests.support import books, coding
from tests.support.compare import assert_close
from tests.support.segments import Runs, queries
from tests.unit.builders import make_rope, random
from tests.unit.ops.test_octets import SHIPPED

CODES = [NsnEncode(group=7), NsnEncode(bits=1, group=7), CommvqEncode(), CommvqEncode(bits=1)]
DIMS = [(16, 16), (32, 32), (128, 36)]
ODD = [(63, 63), (10, 130)]


def env(dims: tuple[int, int], turn: Rope | None = None) -> Env:
    """The second of two layers, of two kv heads."""
    geometry = Geometry(2, 4, 2, *dims, torch.float32, 0.2)
    trained = books.commuting((2, 2), {"keys": dims[0], "values": dims[1]})
    return Env(1, geometry, turn, fixed={"octets": SHIPPED, "commvq": trained})


def rows(dims: tuple[int, int], n: int = 21) -> tuple[Tensor, Tensor]:
    """Entries far from zero, of different lengths."""
    length = 0.5 + torch.rand(n, 1, generator=torch.Generator().manual_seed(5))
    return length * (random(n, dims[0], seed=1) + 2), length * random(n, dims[1], seed=2)


@pytest.mark.parametrize("dims", [*DIMS, *ODD])
@pytest.mark.parametrize("code", CODES)
def test_bytes_are_what_is_declared(code: Any, dims: tuple[int, int]) -> None:
    at = env(dims)
    if dims[0] % 2 and code.name == "commvq":
        with pytest.raises(BadArgument, match="head size=63 is not allowed; head size must be even"):
            code.check(at.geometry)
        return
    code.check(at.geometry)
    codes = coding.encode(code, at, *rows(dims))
    tensors = [*codes.entry.values(), *codes.group.values()]
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == pytest.approx(
        21 * code.bytes_per_entry(at.geometry)
    )
    assert sum(tensor.nbytes for tensor in codes.group.values()) == 21 // code.group * code.group_bytes(
        at.geometry
    )
    assert all(len(tensor) == 21 for tensor in codes.entry.values())


@pytest.mark.parametrize(
    ("code", "dim", "bits"),
    [
        (NsnEncode(), 128, 2.23),
        (NsnEncode(bits=1), 128, 1.23),
        (NsnEncode(), 32, 2.719),
        (CommvqEncode(), 128, 2.063),
        (CommvqEncode(bits=1), 128, 1.031),
        (CommvqEncode(), 32, 2.25),
        (CommvqEncode(bits=1), 32, 1.125),
        (KiviEncode(), 32, 3.0),
    ],
)
def test_real_bits_per_number(code: Any, dim: int, bits: float) -> None:
    geometry = Geometry(1, 1, 1, dim, dim, torch.float16, 1.0)
    assert 8 * code.bytes_per_entry(geometry) / (2 * dim) == pytest.approx(bits, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("code", CODES)
def test_decoded_in_the_dtype_asked_for_and_inputs_unchanged(code: Any, dtype: torch.dtype) -> None:
    keys, values = (x.to(dtype) for x in rows((32, 32)))
    before = keys.clone(), values.clone()
    decoded = coding.decode(code, env((32, 32)), coding.encode(code, env((32, 32)), keys, values), dtype)
    assert decoded[0].dtype == decoded[1].dtype == dtype
    assert decoded[0].shape == keys.shape and decoded[1].shape == values.shape
    assert torch.equal(keys, before[0]) and torch.equal(values, before[1])


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("code", CODES)
def test_entries_leave_one_by_one(code: Any, dims: tuple[int, int]) -> None:
    at = env(dims)
    codes = coding.encode(code, at, *rows(dims))
    whole = coding.decode(code, at, codes, torch.float32)
    stay = torch.tensor([0, 10, 19, 20])
    group_of = stay // code.group if codes.group else None
    left = Codes({name: tensor[stay] for name, tensor in codes.entry.items()}, codes.group)
    decoded = coding.decode(code, at, left, torch.float32, group_of)
    assert all(torch.allclose(x, y[stay], atol=1e-5) for x, y in zip(decoded, whole, strict=True))


@pytest.mark.parametrize("code", CODES)
def test_windows_and_heads_are_written_by_themselves(code: Any) -> None:
    at, (keys, values) = env((32, 32)), rows((32, 32), 28)
    heads = torch.arange(28) // 14
    whole = coding.encode(code, at, keys, values, Where(heads, heads))
    for head in (0, 1):
        mine = slice(14 * head, 14 * head + 14)
        alone = coding.encode(code, at, keys[mine], values[mine], Where(heads[mine], heads[mine]))
        for name, tensor in alone.entry.items():
            assert torch.equal(tensor, whole.entry[name][mine]), name
    again = code.decode(at, whole, Where(heads, heads), torch.float32)
    order = torch.arange(27, -1, -1)
    if code.group == 1:
        turned = coding.encode(code, at, keys[order], values[order], Where(heads[order], heads[order]))
        back = code.decode(at, turned, Where(heads[order], heads[order]), torch.float32)
        assert torch.allclose(back[0][order], again[0], atol=1e-5)
        assert torch.allclose(back[1][order], again[1], atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("turn", [None, make_rope(16), make_rope(10, interleaved=True, scaling=1.2)])
@pytest.mark.parametrize("code", CODES)
def test_reading_codes_is_decoding_and_attending(
    code: Any, turn: Rope | None, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = env((16, 24), turn)
    at = replace(at, geometry=replace(at.geometry, softcap=softcap))
    assert isinstance(code, Direct)
    run = Runs.random(at.geometry, [[42, 7], [0, 77], [14, 35]], weighs=True).flat()
    held, asked = Coded.of(code, at, run), queries(at.geometry, 3, 1)
    direct = held.attend(asked)[0]
    monkeypatch.setattr(coded, "Direct", type("Nobody", (), {}))
    want = held.attend(asked)[0]
    assert_close(direct.out, want.out, "logits_fp32")
    assert torch.allclose(direct.lse, want.lse, atol=1e-4)


@pytest.mark.parametrize("turn", [make_rope(16), make_rope(10, interleaved=True, scaling=1.2)])
def test_keys_are_coded_before_the_embedding(turn: Rope) -> None:
    """A window that is one key, turned by its places, is its mean but for four bits' rounding."""
    at, code = env((16, 16), turn), NsnEncode(group=7)
    places = torch.arange(7) * 5
    key = random(1, 16, seed=7).expand(7, -1)
    turned = rope.apply(key, places, turn)
    where = replace(Where.alone(7), positions=places)
    again = code.decode(at, code.encode(at, turned, turned, where, {}), where, torch.float32)
    assert float((again[0] - turned).norm() / turned.norm()) < 0.02
    assert float((again[1] - turned).norm() / turned.norm()) > 0.1
    plain = code.decode(
        at, code.encode(at, turned, turned, Where.alone(7), {}), Where.alone(7), torch.float32
    )
    assert torch.equal(plain[0], plain[1])


def test_nothing_is_divided_by_zero() -> None:
    for code in CODES:
        zeros = torch.zeros(14, 32)
        again = coding.again(code, env((32, 32)), zeros, zeros)
        assert bool(torch.isfinite(again[0]).all()) and bool(torch.isfinite(again[1]).all())
        if code.name == "nsnquant":
            assert not again[0].any() and not again[1].any()
        loud = torch.full((14, 32), 1e6)
        assert bool(torch.isfinite(coding.again(code, env((32, 32)), loud, loud)[1]).all())


def test_tables_of_too_few_stages_are_refused() -> None:
    at = env((32, 32))
    tables = {**at.fixed["commvq"], "keys": at.fixed["commvq"]["keys"][:, :, :3]}
    at = replace(at, fixed={"commvq": tables})
    coding.encode(CommvqEncode(bits=1), at, *rows((32, 32)))
    with pytest.raises(AssetError, match="the codewords have 3 stages, 5 are needed"):
        coding.encode(CommvqEncode(), at, *rows((32, 32)))
