"""Codes of codewords: exact where they can be, better with more of them, read from tables as if decoded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.encode.product import PqEncode
from keyvalise.encode.residual import RqEncode
from keyvalise.ops import codewords, lookup
from keyvalise.store import coded
from keyvalise.store.coded import Coded
from keyvalise.train import codebooks
from keyvalise.train.codebooks import Sizes
from keyvalise.types.code import Asked, Codes, Direct, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry, Rope
from tests.support import coding
from tests.support.compare import assert_close
from tests.support.segments import Runs, queries
from tests.unit.builders import random

GEOMETRY = Geometry(2, 4, 2, 24, 24, torch.float32, 0.2)
ROPE = Rope(10000.0 ** -(torch.arange(12) / 12), False)
CODES = [
    PqEncode(parts=6, codewords=16),
    PqEncode(parts=4, codewords=7, norm=True),
    PqEncode(parts=4, codewords=7, of="post", index="resbit"),
    PqEncode(parts=1, codewords=300, of="post"),
    RqEncode(stages=3, codewords=16),
    RqEncode(stages=2, codewords=7, norm=True, of="post"),
    RqEncode(stages=3, codewords=5, beam=4, of="post"),
]
"""Of every kind: side, lengths beside, numbers that are no power of two, one piece alone."""


def env(code: Any) -> Env:
    """Random books for a code, of two layers and two heads; the second layer's is asked for."""
    spelling = code.spelling
    shape = (spelling.m, spelling.n, 24 if spelling.is_sum else 24 // spelling.m)
    books = {name: random(2, 2, *shape, seed=i).half() for i, name in enumerate(("keys", "values"))}
    return Env(1, GEOMETRY, ROPE, fixed={code.codebook: books})


@pytest.mark.parametrize("code", CODES)
def test_bytes_are_what_is_declared(code: Any) -> None:
    keys, values = random(7, 24, seed=1), random(7, 24, seed=2)
    codes = coding.encode(code, env(code), keys, values)
    held = sum(tensor.untyped_storage().nbytes() for tensor in codes.entry.values())
    assert held == 7 * code.bytes_per_entry(GEOMETRY) and not codes.group
    assert all(
        tensor.dtype == torch.uint8 or name.startswith("scale") for name, tensor in codes.entry.items()
    )


@pytest.mark.parametrize("code", CODES)
def test_entries_are_their_heads_codewords_by_themselves(code: Any) -> None:
    keys, values = random(9, 24, seed=1), random(9, 24, seed=2)
    heads = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1])
    at, where = env(code), Where(heads, heads)
    codes = code.encode(at, keys, values, where, {})
    whole = code.decode(at, codes, where, torch.float32)
    for i in range(9):
        own = Where(heads[i : i + 1], heads[i : i + 1])
        mine = code.encode(at, keys[i : i + 1], values[i : i + 1], own, {})
        alone = code.decode(at, mine, own, torch.float32)
        assert all(torch.equal(x[i : i + 1], y) for x, y in zip(whole, alone, strict=True))
        left = Codes({name: tensor[i : i + 1] for name, tensor in codes.entry.items()}, {})
        assert torch.equal(code.decode(at, left, own, torch.float32)[0], whole[0][i : i + 1])


@pytest.mark.parametrize("code", [code for code in CODES if not code.norm and not code.spelling.is_sum])
def test_every_piece_is_the_nearest_codeword(code: Any) -> None:
    at, keys = env(code), random(30, 24, seed=1)
    again = coding.again(code, at, keys, keys)[0].unflatten(1, (code.parts, -1))
    book = at.fixed["pq"]["keys"][1, 0].float()
    for piece in range(code.parts):
        apart = torch.cdist(keys.unflatten(1, (code.parts, -1))[:, piece], book[piece])
        assert torch.equal(again[:, piece], book[piece][apart.argmin(-1)])


def test_a_sum_takes_the_nearest_of_what_is_left_and_a_beam_errs_less() -> None:
    book, x = random(1, 4, 9, 24, seed=1), random(50, 24, seed=2)
    heads = torch.zeros(50, dtype=torch.long)
    left = x
    greedy = codewords.residual(x, heads, book)
    for stage in range(4):
        own = torch.cdist(left, book[0, stage]).argmin(-1)
        assert torch.equal(greedy[:, stage], own)
        left = left - book[0, stage][own]
    errors = [
        (x - codewords.summed(codewords.residual(x, heads, book, beam), heads, book)).square().sum(-1).mean()
        for beam in (1, 4, 16)
    ]
    assert errors[0] == pytest.approx(float(left.square().sum(-1).mean()), rel=1e-5)
    assert errors[2] < errors[1] < errors[0]


def correlated(n: int, seed: int) -> Tensor:
    """Vectors of one head whose numbers say much of each other."""
    return random(1, n, 6, seed=seed) @ random(1, 6, 24, seed=9) + 0.1 * random(1, n, 24, seed=seed + 1)


def error(sizes: Sizes, x: Tensor) -> float:
    return codebooks.fit(x, sizes, "a seed")[1]


def test_more_pieces_codewords_and_stages_err_less() -> None:
    x = correlated(600, 1)
    for is_sum in (False, True):
        by_words = [error(Sizes(4, n, is_sum, False), x) for n in (2, 8, 32)]
        by_pieces = [error(Sizes(m, 8, is_sum, False), x) for m in (1, 2, 4, 8)]
        assert by_words == sorted(by_words, reverse=True) and by_words[2] < 0.5 * by_words[0]
        assert by_pieces == sorted(by_pieces, reverse=True) and by_pieces[3] < 0.5 * by_pieces[0]


def test_sums_are_better_than_pieces_where_numbers_say_much_of_each_other() -> None:
    x = correlated(900, 3)
    assert error(Sizes(4, 16, True, False), x) < error(Sizes(4, 16, False, False), x)


@pytest.mark.parametrize("has_length", [False, True])
@pytest.mark.parametrize("is_sum", [False, True])
def test_no_more_vectors_than_codewords_come_back_exactly(is_sum: bool, has_length: bool) -> None:
    x = random(2, 13, 24, seed=1)
    sizes = Sizes(1 if is_sum else 4, 13, is_sum, has_length)
    books, left = codebooks.fit(x.repeat(1, 3, 1), sizes, "a seed")
    assert left < 1e-6
    code = RqEncode(1, 13, norm=has_length) if is_sum else PqEncode(4, 13, norm=has_length)
    at = Env(0, GEOMETRY, fixed={code.codebook: {"keys": books[None], "values": books[None]}})
    again = coding.again(code, at, x[0], x[0])
    assert all(torch.allclose(y, x[0], atol=2e-3 if has_length else 1e-5) for y in again)


@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("code", CODES)
def test_reading_from_tables_is_decoding_and_attending(
    code: Any, softcap: float | None, weighs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = env(code)
    assert isinstance(code, Direct)
    run = Runs.random(GEOMETRY, [[40, 9], [0, 75], [1, 33]], weighs=weighs).flat()
    held = Coded.of(code, replace(at, geometry=replace(GEOMETRY, softcap=softcap)), run)
    asked = queries(held.env.geometry, 3, 1)
    read: list[int] = []
    attend = type(code).attend
    monkeypatch.setattr(type(code), "attend", lambda *given: read.append(1) or attend(*given))
    direct = [held.attend(asked)[0]]
    with monkeypatch.context() as patch:
        patch.setattr(coded, "LEAST_BYTES", 16 * GEOMETRY.entry_bytes)
        direct.append(held.attend(asked)[0])
    assert len(read) > 9
    monkeypatch.setattr(coded, "Direct", type("Nobody", (), {}))
    want = held.attend(asked)[0]
    for got in direct:
        assert_close(got.out, want.out, "logits_fp32")
        assert torch.allclose(got.lse, want.lse, atol=1e-4)


def test_several_queries_of_a_row_are_answered_by_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    code = CODES[2]
    held = Coded.of(code, env(code), Runs.random(GEOMETRY, [[40, 9]]).flat())
    monkeypatch.setattr(type(code), "attend", None)
    assert held.attend(queries(GEOMETRY, 1, 7))[0].out.shape == (1, 4, 7, 24)


def test_a_head_without_entries_answers_nothing() -> None:
    asked = Asked(random(4, 24), 0, (0, 0, 5), 0.2)
    keys, values = random(5, 24, seed=1), random(5, 24, seed=2)

    def weighed(weights: Tensor, head: int, span: slice) -> Tensor:
        return weights @ values[span]

    out, lse = lookup.attend(asked, lookup.spelled(keys), weighed, 24)
    assert lse[:2].tolist() == [-torch.inf] * 2 and not out[:2].any()
    want = (0.2 * asked.q[2:] @ keys.T).softmax(-1) @ values
    assert torch.allclose(out[2:], want, atol=1e-6)


def test_pieces_that_do_not_divide_the_head_are_refused() -> None:
    with pytest.raises(BadArgument, match="parts=16 is not allowed; parts must be a divisor of"):
        PqEncode().check(GEOMETRY)
    PqEncode(parts=12).check(GEOMETRY)
