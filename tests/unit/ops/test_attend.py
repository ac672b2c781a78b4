"""Who answers many queries of numbers of 16 bits."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import attend


@pytest.mark.parametrize("has_tiles", [False, True])
def test_many_queries_of_bfloat16_are_answered_as_exactly_as_of_float32(
    has_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend, "_has_tiles", lambda: has_tiles)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 64).bfloat16() for heads, n in ((4, 48), (2, 300), (2, 300)))
    got, lse = attend.dense(q, k, v, scale=0.125)
    want, want_lse = attend.dense(q.float(), k.float(), v.float(), scale=0.125)
    is_exact = torch.allclose(got, want, atol=1e-5) and torch.allclose(lse, want_lse, atol=1e-5)
    assert is_exact != has_tiles, "torch's own rounds what it answers to the dtype of the queries"
    assert torch.allclose(got, want, atol=2e-2)
