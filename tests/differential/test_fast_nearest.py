"""The compiled search for the closest centre against products in full."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import closest
from keyvalise.ops.fast import choose, legible, nearest


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namesakes are torch's."""
    monkeypatch.setattr(choose, "_forced", lambda: False)


def agree(x: Tensor, centres: Tensor, less: Tensor | None) -> None:
    """The largest products are the same, and who has them, or somebody who comes as near."""
    own, found = nearest.best(x, centres, less)
    products = x.double() @ centres.double().mT
    products = products if less is None else products - less[:, None].double()
    top = products.amax(-1)
    # What rounding leaves of a sum depends on its parts, not on what they add up to.
    scale = 1e-6 * (
        1 + x.norm(dim=-1) * centres.norm(dim=-1).amax(-1, keepdim=True) + products.abs().amax(-1)
    )
    assert own.dtype is torch.long and own.shape == x.shape[:2]
    assert ((found - top).abs() <= scale).all()
    assert ((products.gather(-1, own[..., None])[..., 0] - top).abs() <= scale).all()
    want, most = closest.best(x, centres, less)
    assert ((most - found).abs() <= 2 * scale).all() and (want == own).float().mean() >= 0.99


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_sizes(data: st.DataObject) -> None:
    shape = [data.draw(st.integers(1, most)) for most in (3, 200, 150)]
    n_centres, is_near = data.draw(st.integers(1, 150)), data.draw(st.booleans())
    torch.manual_seed(sum(shape))
    x, centres = torch.randn(shape), torch.randn(shape[0], n_centres, shape[2])
    agree(x, centres, centres.square().sum(-1) / 2 if is_near else None)


@pytest.mark.parametrize("shape", [(16, 2000, 4, 256), (1, 40000, 8, 256), (3, 3000, 128, 512)])
def test_sizes_of_books(shape: tuple[int, ...]) -> None:
    n_sets, n, dim, k = shape
    torch.manual_seed(0)
    centres = torch.randn(n_sets, k, dim)
    agree(torch.randn(n_sets, n, dim), centres, centres.square().sum(-1) / 2)


def test_of_equal_centres_the_first() -> None:
    centres = torch.randn(1, 1, 20).expand(1, 100, 20).contiguous()
    own, _ = nearest.best(torch.randn(1, 70, 20), centres)
    assert not own.any()
    centres[:, :37] = 0
    own, _ = nearest.best(centres[:, 50:60], centres)
    assert (own == 37).all()


def test_what_is_no_number_is_near_to_the_first() -> None:
    x = torch.randn(1, 5, 20)
    x[0, 2] = torch.nan
    own, _ = nearest.best(x, torch.randn(1, 100, 20))
    assert own[0, 2] == 0
    assert closest.best(x, torch.randn(1, 100, 20))[0][0, 2] == 0


@pytest.mark.parametrize(("n_sets", "n", "dim"), [(1, 1, 1), (3, 5000, 7), (2, 2049, 128)])
def test_approaching(n_sets: int, n: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, centres = torch.randn(n_sets, n, dim), torch.randn(4, n_sets, dim)
    centres[2] = x[:, n // 2]
    distances = []
    for is_fast in (False, True):
        monkeypatch.setattr(choose, "_forced", lambda is_fast=is_fast: is_fast)
        approach, distance = closest.approaching(x), torch.full((n_sets, n), torch.inf)
        for centre in centres:
            distance = approach(distance, centre)
        assert not distance[:, n // 2].any()
        distances.append(distance)
    torch.testing.assert_close(*distances)


def test_two_threads_answer_like_one() -> None:
    torch.manual_seed(0)
    x, centres, before = torch.randn(2, 5000, 32), torch.randn(2, 70, 32), torch.get_num_threads()
    answers = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            answers.append(nearest.best(x, centres))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


def test_it_is_chosen_and_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centres = torch.randn(2, 5000, 32), torch.randn(2, 70, 32)
    assert not nearest.serves(x, centres)
    monkeypatch.setattr(choose, "_forced", lambda: None)
    assert nearest.serves(x, centres) and not nearest.serves(x.double(), centres.double())
    assert not nearest.serves(x[:, :0], centres) and not nearest.serves(x, centres.half())
    monkeypatch.setattr(legible, "is_installed", lambda: False)
    assert not nearest.serves(x, centres)
