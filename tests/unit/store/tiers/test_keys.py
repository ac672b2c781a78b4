"""Keys: no two different ones meet, and chains agree exactly where their tokens do."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keyvalise.store import keys
from keyvalise.store.keys import Chain, Key
from keyvalise.types.errors import StoreError

WORDS = st.text("ab\0 ,|7", max_size=4)
"""Few letters, separators among them: what collides does so soon."""

LISTS = st.lists(WORDS, max_size=3).map(tuple)
KEYS = st.builds(
    Key,
    model=WORDS,
    recipe=WORDS,
    dtype=WORDS,
    prefill_chunk=st.none() | st.integers(0, 3),
    seed=st.integers(-1, 12),
    assets=LISTS,
    spans=LISTS,
    salt=WORDS,
    adapter=WORDS,
    edits=LISTS,
    layout=st.integers(0, 2),
)
TOKENS = st.lists(st.integers(-1, 2), min_size=1, max_size=23)


@settings(max_examples=300)
@given(KEYS, KEYS)
def test_different_keys_have_different_bytes(one: Key, other: Key) -> None:
    assert (keys.encoded(one) == keys.encoded(other)) == (one == other)


@settings(max_examples=200)
@given(KEYS, st.sampled_from([field.name for field in dataclasses.fields(Key)]), st.data())
def test_every_field_counts(key: Key, name: str, data: st.DataObject) -> None:
    other = dataclasses.replace(key, **{name: data.draw(WORDS if name == "model" else _values(name))})
    assume(other != key)
    one, two = Chain.of(key, [1] * 9, 4), Chain.of(other, [1] * 9, 4)
    assert not {one.root, *one.chunks, one.tail(9)} & {two.root, *two.chunks, two.tail(9)}
    assert not set(one.families) & set(two.families)


def _values(name: str) -> st.SearchStrategy[Any]:
    default = getattr(Key("m"), name)
    if isinstance(default, tuple):
        return LISTS
    return st.integers(0, 9) if isinstance(default, int) or default is None else WORDS


PLACES: list[dict[str, Any]] = [
    {"salt": "x"},
    {"adapter": "x"},
    {"dtype": "x"},
    {"recipe": "x"},
    {"model": "x"},
    {"edits": ("x",)},
    {"spans": ("x",)},
    {"assets": ("x",)},
    {"edits": ("x", "")},
    {"edits": ("", "x")},
    {"salt": "x", "adapter": "x"},
    {"salt": "xx"},
    {"salt": "x\0"},
    {"salt": "none"},
    {"prefill_chunk": 0},
    {"prefill_chunk": 7},
    {"seed": 7},
    {"layout": 7},
    {},
]


def test_a_word_is_not_the_same_word_elsewhere() -> None:
    roots = [Chain.of(Key(**{"model": "m", **fields}), [1], 4).root for fields in PLACES]
    assert len(set(roots)) == len(PLACES)
    tenants = {keys.tenant(salt) for salt in ("", "x", "xx", "x\0", "none")}
    assert len(tenants) == 5 and all(len(tenant) == 32 for tenant in tenants)


@settings(max_examples=300)
@given(TOKENS, TOKENS, st.integers(1, 5))
def test_chains_agree_as_far_as_their_tokens_do(one: list[int], other: list[int], size: int) -> None:
    first, second = Chain.of(Key("m"), one, size), Chain.of(Key("m"), other, size)
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
    assert first.common(second.chunks) == second.common(first.chunks) == same // size
    for n in range(1, min(len(one), len(other)) + 1):
        if n % size:
            assert (first.tail(n) == second.tail(n)) == (same >= n)
        else:
            assert first.tail(n) == second.tail(n) == b""
    assert (first.family == second.family) == (same >= size or (len(one) < size and len(other) < size))


def test_a_tail_is_no_chunk_and_other_sizes_are_other_chains() -> None:
    tokens = list(range(63))
    whole, cut = Chain.of(Key("m"), tokens, 7), Chain.of(Key("m"), tokens[:60], 7)
    assert len(whole.chunks) == 9 and whole.tail(63) == b"" and len(cut.chunks) == 8
    assert cut.tail(60) not in whole.chunks and cut.tail(60) == whole.tail(60)
    assert not set(Chain.of(Key("m"), tokens, 9).chunks) & set(whole.chunks)
    assert keys.digest("a", b"bc") != keys.digest("ab", b"c") != keys.digest("a", b"b", b"c")


def test_short_contexts_share_a_family_that_longer_ones_look_into() -> None:
    short, long = Chain.of(Key("m"), [1, 2], 4), Chain.of(Key("m"), [1, 2, 3, 4, 5], 4)
    assert short.families == (short.family,) and long.families == (long.family, short.family)
    assert Chain.of(Key("m", salt="x"), [1, 2], 4).family != short.family


@pytest.mark.parametrize(
    ("tokens", "said"),
    [([], "a context of no token has no name"), ([1, 2**63], "64-bit"), ([1.5] * 9, "64-bit")],
)
def test_what_is_no_context(tokens: list[Any], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Chain.of(Key("m"), tokens, 4)
