"""Streams of sheets: lossless is lossless, levels keep their bounds, beginnings are coarser streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keyvalise.ops import principal
from keyvalise.store import stream
from keyvalise.store.stream import coded, levels, part
from keyvalise.types.errors import InputError, UnknownName
from tests.unit.store.stream.sheets import half, make, same_sheets

SHEETS = {
    "plain": {"dim": 16},
    "one": {"heads": 1, "n": 1, "dim": 7},
    "empty": {"n": 0},
    "fp32, interleaved": {"dtype": torch.float32, "turn": half(16, is_interleaved=True)},
    "fp16, part, scaled": {"dtype": torch.float16, "dim": 24, "value_dim": 6, "turn": half(12, scaling=1.3)},
    "repeats": {"n": 130, "repeats": True, "turn": half()},
    "repeats, no ids": {"n": 130, "repeats": True, "has_ids": False, "turn": half()},
    "repeats, no turn": {"n": 130, "repeats": True, "has_ids": False},
    "places of heads": {"n": 130, "per_head": True, "turn": half()},
}
KINDS = pytest.mark.parametrize("kind", list(SHEETS))


def row(kind: str, n_layers: int = 2) -> list[stream.Sheet]:
    return [make(seed=layer, **SHEETS[kind]) for layer in range(n_layers)]


@KINDS
@pytest.mark.parametrize("is_progressive", [False, True])
def test_lossless_is_lossless(kind: str, is_progressive: bool) -> None:
    sheets = row(kind)
    found = stream.read(stream.write(sheets, "lossless", is_progressive=is_progressive, chunk=50))
    assert same_sheets(found, sheets)
    for given, got in zip(sheets, found, strict=True):
        assert got.offset == given.offset and (given.ids is None) == (got.ids is None)
        assert given.ids is None or torch.equal(got.ids, given.ids)
        assert given.rope is None or torch.equal(got.rope.frequencies, given.rope.frequencies)


@KINDS
def test_a_beginning_is_the_stream_of_a_coarser_level(kind: str) -> None:
    sheets = row(kind)
    data = stream.write(sheets, "lossless", is_progressive=True, chunk=50)
    for name in stream.LEVELS:
        assert same_sheets(stream.read(data, name), stream.read(stream.write(sheets, name, chunk=50)))
    cut = stream.write(sheets, "small", is_progressive=True, chunk=50)
    assert data.startswith(cut) and same_sheets(stream.read(cut), stream.read(data, "small"))


@pytest.mark.parametrize("kind", ["plain", "fp32, interleaved", "places of heads", "repeats"])
@pytest.mark.parametrize("name", ["smallest", "small", "medium", "large"])
def test_errors_stay_below_a_step(kind: str, name: str) -> None:
    """Every component is off by half a step at most, but for those that are not worth a step's share."""
    sheets = row(kind)
    level = levels.find(name)
    for layer, (given, got) in enumerate(zip(sheets, stream.read(stream.write(sheets, name)), strict=True)):
        for i, which in enumerate(part.KINDS):
            x, y = part.matrix(given, which), part.matrix(got, which)
            step = levels.widths(layer, len(sheets))[i] / 3 ** level.rung(which)
            heads = len(given.keys)
            scale = np.square((x - x.mean(0)).reshape(len(x), heads, -1)).mean((0, 2)) ** 0.5
            off = np.square((x - y).reshape(len(x), heads, -1)).mean((0, 2)) ** 0.5
            # Rounding to 16 bits and back is far smaller than any step.
            assert (off / scale).mean() < step * (0.25 + principal.ACTIVE**2) ** 0.5
    # Nothing is so coarse that it says nothing.
    assert off.max() < 0.9 * scale.max() or name == "smallest"


def test_levels_grow_and_come_nearer() -> None:
    sheets = [make(2, 700, 16, turn=half(), seed=layer) for layer in range(3)]
    sizes, errors = [], []
    for name in stream.LEVELS:
        data = stream.write(sheets, name)
        found = stream.read(data)
        sizes.append(len(data))
        errors.append(
            sum(float((a.keys - b.keys).float().square().sum()) for a, b in zip(sheets, found, strict=True))
        )
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and errors[-1] == 0
    assert sizes[-1] < 0.75 * sum(sheet.nbytes for sheet in sheets)


def test_repetition_pays() -> None:
    sheets = [make(2, 700, 16, repeats=True, turn=half())]
    fresh = [make(2, 700, 16, turn=half())]
    for name, share in (("medium", 0.45), ("lossless", 0.5)):
        assert len(stream.write(sheets, name)) < share * len(stream.write(fresh, name))
    unnamed = [make(2, 700, 16, repeats=True, has_ids=False, turn=half())]
    assert len(stream.write(unnamed, "lossless")) < 0.6 * len(stream.write(fresh, "lossless"))


def test_repetition_pays_in_later_layers_as_well() -> None:
    """What a layer holds of a token resembles what it holds of the same token elsewhere."""
    first, later = make(2, 700, 16, repeats=True, turn=half()), make(2, 700, 16, repeats=True, turn=half())
    noisy = later.values.float() + 0.1 * torch.randn(
        later.values.shape, generator=torch.Generator().manual_seed(1)
    )
    later = stream.Sheet(later.keys, noisy.bfloat16(), later.ordinals, later.ids, later.rope)
    fresh = [make(2, 700, 16, turn=half()), later]
    bare = [
        stream.Sheet(sheet.keys, sheet.values, sheet.ordinals, None, sheet.rope) for sheet in (first, later)
    ]
    unnamed = [stream.Sheet(sheet.keys, sheet.values, sheet.ordinals, None, sheet.rope) for sheet in fresh]
    sizes = {
        name: [len(stream.write(one, "medium")) for one in rows]
        for name, rows in {
            "known": ([first, later], [first]),
            "inferred": (bare, bare[:1]),
            "unknown": (unnamed, unnamed[:1]),
        }.items()
    }
    own = {name: both - alone for name, (both, alone) in sizes.items()}
    assert own["known"] < 0.6 * own["unknown"] and own["inferred"] < 0.6 * own["unknown"]
    found = stream.read(stream.write(bare, "lossless"))
    assert same_sheets(found, bare) and all(sheet.ids is None for sheet in found)


def test_a_row_that_only_seems_to_repeat_is_written() -> None:
    sheet = make(2, 130, 16, repeats=True)
    first, again = next((i, j) for j in range(130) for i in range(j) if sheet.ids[i] == sheet.ids[j])
    sheet.values[1, again, 3] += 2
    encoded = coded.Encoded([sheet])
    assert encoded.parts[0]["values"].source[again] == again
    assert encoded.parts[0]["keys"].source[again] == first
    found = stream.read(stream.write([sheet], "medium"))[0]
    assert abs(float(found.values[1, again, 3] - found.values[1, first, 3])) > 1


def test_numbers_that_are_not_finite_need_lossless() -> None:
    sheet = make()
    sheet.keys[0, 3, 4], sheet.values[1, 7, 2], sheet.keys[1, 2, 3] = torch.nan, -torch.inf, -0.0
    assert same_sheets(stream.read(stream.write([sheet], "lossless")), [sheet])
    for name, is_progressive in (("large", False), ("lossless", True)):
        with pytest.raises(InputError, match="not finite"):
            stream.write([sheet], name, is_progressive=is_progressive)


def test_given_sheets_are_not_changed() -> None:
    sheets, again = row("repeats"), row("repeats")
    stream.write(sheets, "lossless", is_progressive=True)
    assert same_sheets(sheets, again)


def test_layers_may_differ_in_everything() -> None:
    sheets = [make(2, 63, 16), make(1, 130, 7, 5, torch.float32, has_ids=False), make(3, 0, 8)]
    assert same_sheets(stream.read(stream.write(sheets, "lossless", chunk=50)), sheets)


def test_what_no_stream_can_hold_is_refused() -> None:
    sheet = make()
    with pytest.raises(InputError, match="at least one sheet"):
        stream.write([], "small")
    with pytest.raises(UnknownName, match="unknown level"):
        stream.write([sheet], "tiny")
    with pytest.raises(InputError, match="must both be"):
        stream.write([stream.Sheet(sheet.keys.double(), sheet.values.double(), sheet.ordinals)], "small")
    with pytest.raises(InputError, match="they must have"):
        stream.write([stream.Sheet(sheet.keys, sheet.values, sheet.ordinals[:7])], "small")
    with pytest.raises(InputError, match=r"must be \[H, N, D\]"):
        stream.write([stream.Sheet(sheet.keys, sheet.values[:, :7], sheet.ordinals)], "small")
    with pytest.raises(InputError, match="need heads and channels"):
        stream.write([stream.Sheet(sheet.keys[:0], sheet.values[:0], sheet.ordinals)], "small")
    with pytest.raises(InputError, match="rope turns"):
        stream.write([stream.Sheet(sheet.keys, sheet.values, sheet.ordinals, None, half(32))], "small")
    with pytest.raises(UnknownName):
        stream.read(stream.write([sheet], "small"), "tiny")
