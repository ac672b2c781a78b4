"""The one way tests compare numbers: shapes, NaN and infinities first, then a bound from the table."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.tolerances import TOLERANCES


def assert_close(got: Tensor, want: Tensor, tolerance_name: str, *, what: str = "result") -> None:
    """Raise AssertionError unless |got − want| ≤ share · max |want|, elementwise.

    Infinities must stand in the same places; a NaN on either side is an error, never equal.
    """
    tolerance = TOLERANCES[tolerance_name]
    if got.shape != want.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    got, want = got.detach().to("cpu", torch.float64), want.detach().to("cpu", torch.float64)
    for name, tensor in (("got", got), ("want", want)):
        if tensor.isnan().any():
            raise AssertionError(f"{what}: {int(tensor.isnan().sum())} NaN in `{name}`")
    finite = want.isfinite()
    if not torch.equal(got[~finite], want[~finite]) or not got[finite].isfinite().all():
        raise AssertionError(f"{what}: infinities stand in different places")
    if not finite.any():
        return
    error = torch.where(finite, (got - want).abs(), 0.0)
    bound = tolerance.share * float(want[finite].abs().max())
    worst = float(error.max())
    if worst > bound:
        place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
        raise AssertionError(
            f"{what}: off by {worst:.3g} at {place}: {float(got[place]):.6g}, not {float(want[place]):.6g}; "
            f"allowed {bound:.3g} = {tolerance.share:.3g} of the largest ({tolerance_name}: {tolerance.why})"
        )


def assert_same(got: Tensor, want: Tensor, *, what: str = "result") -> None:
    """Raise AssertionError unless dtype, shape and every bit agree."""
    if got.dtype != want.dtype:
        raise AssertionError(f"{what}: dtype {got.dtype}, expected {want.dtype}")
    assert_close(got, want, "exact", what=what)
