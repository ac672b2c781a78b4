"""Rotations: inverse, differences, layouts, scaling, and their mean."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import rope
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_rope, random

LAYOUTS = pytest.mark.parametrize("interleaved", [False, True])
POSITIONS = torch.tensor([0, 3, 7, 62, 129, 5, 1])


@LAYOUTS
def test_matrix_of_one_pair(interleaved: bool) -> None:
    angle = torch.tensor([0.3])
    x = torch.tensor([1.0, 2.0, 5.0])
    got = rope.rotate(x, angle.cos(), angle.sin(), interleaved, 2)
    c, s = float(angle.cos()), float(angle.sin())
    assert_close(got, torch.tensor([c - 2 * s, 2 * c + s, 5.0]), "attention_fp32")


@LAYOUTS
def test_layouts_pair_other_channels(interleaved: bool) -> None:
    angles = torch.tensor([0.0, 0.5])
    turned = rope.rotate(torch.ones(4), angles.cos(), angles.sin(), interleaved, 4)
    still = [0, 1] if interleaved else [0, 2]
    assert [i for i in range(4) if turned[i] == 1.0] == still


@LAYOUTS
@pytest.mark.parametrize("scaling", [1.0, 1.3])
def test_unrotate_undoes_apply(interleaved: bool, scaling: float) -> None:
    data = make_rope(8, interleaved=interleaved, scaling=scaling)
    x = random(2, 3, 7, 10)
    there = rope.apply(x, POSITIONS, data)
    assert_close(rope.unrotate(there, POSITIONS, data), x, "attention_fp32")
    assert_same(there[..., 8:], x[..., 8:])
    assert_close(there[..., :8].norm(dim=-1), scaling * x[..., :8].norm(dim=-1), "attention_fp32")


@LAYOUTS
def test_shift_moves_by_a_difference(interleaved: bool) -> None:
    data = make_rope(8, interleaved=interleaved, scaling=1.3)
    x, delta = random(2, 3, 7, 8), torch.tensor([5, -3, 0, -62, 1, 7, 63])
    moved = rope.shift(rope.apply(x, POSITIONS, data), delta, data)
    assert_close(moved, rope.apply(x, POSITIONS + delta, data), "attention_fp32")


@LAYOUTS
def test_mean_rotation_is_the_mean_of_rotations(interleaved: bool) -> None:
    data, x = make_rope(8, interleaved=interleaved), random(2, 10)
    cos, sin = rope.mean_rotation(data, torch.tensor([7, 130]), 63)
    got = rope.rotate(x, cos, sin, interleaved, 8)
    for row, first in enumerate((7, 130)):
        positions = torch.arange(first, first + 63)
        want = rope.apply(x[row].expand(63, -1), positions, data).mean(0)
        assert_close(got[row], want, "attention_fp32")


def test_half_precision_is_widened_and_float64_kept() -> None:
    data = make_rope(8)
    assert rope.apply(random(7, 8).bfloat16(), POSITIONS, data).dtype == torch.float32
    assert rope.apply(random(7, 8).double(), POSITIONS, data).dtype == torch.float64
