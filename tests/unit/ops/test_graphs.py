"""Graphs of heads that hold different numbers of keys."""

from __future__ import annotations

import torch

from keyvalise.ops import graphs


def test_a_head_without_keys_finds_nothing_whatever_lies_behind_it() -> None:
    torch.manual_seed(0)
    keys, lengths = torch.randn(1, 2, 30, 8), torch.tensor([[30, 0]])
    made = graphs.build(keys, lengths, [keys[0, :, :0]], degree=4, beam=9)
    made.entry[0, 1] = True
    own = [keys[0, 0], keys[0, 1, :0]]
    q = torch.randn(1, 2, 3, 8)
    found, products = graphs.search(made, own.__getitem__, q, n=5, width=30)
    best = (q[0, 0] @ keys[0, 0].T).topk(5)
    assert torch.equal(found[0, 0].sort(-1).values, best.indices.sort(-1).values)
    assert torch.allclose(products[0, 0].sort(-1).values, best.values.sort(-1).values, atol=1e-5)
    assert (found[0, 1] == -1).all() and products[0, 1].isneginf().all()


def test_only_a_heads_own_keys_are_begun_with() -> None:
    torch.manual_seed(1)
    keys, lengths = torch.randn(1, 2, 30, 8), torch.tensor([[30, 7]])
    made = graphs.build(keys, lengths, [keys[0, :, :0]], degree=4, beam=9)
    made.entry[0, 1, 7:] = True
    q = torch.randn(1, 2, 1, 8)
    found, _ = graphs.search(made, [keys[0, 0], keys[0, 1, :7]].__getitem__, q, n=3, width=30)
    assert set(found[0, 1, 0].tolist()) == set((keys[0, 1, :7] @ q[0, 1, 0]).topk(3).indices.tolist())
