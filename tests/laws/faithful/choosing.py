"""Relations of the systems that balance or represent what they drop."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tests.laws.faithful.merging import held
from tests.laws.faithful.table import N, best, kept, of
from tests.support import stock
from tests.support.compare import assert_close


@of("balancekv")
def two_halvings_of_what_is_not_protected() -> None:
    n, ends = (N - 8) // 4, "sinks=3, recent=5"
    for entries in held(f"balancekv({ends}) @ {n + 8}tok"):
        assert entries.logw is not None
        for head in range(4):
            found, weight = entries.ordinals[0, head].tolist(), entries.logw[0, head].exp()
            assert len(found) == n + 8 and found[:3] == [0, 1, 2] and found[-5:] == list(range(N - 5, N))
            assert not entries.logw[0, head, [0, 1, 2, -5, -4, -3, -2, -1]].any()
            assert set(weight.round(decimals=4).tolist()) <= {1.0, 2.0, 4.0}
            assert 0.5 * (N - 8) < float(weight.sum()) - 8 <= N - 8 + 1e-3
    sets = {tuple(head) for layer in kept(f"balancekv({ends}) @ 20tok") for head in layer}
    assert len(sets) == 12


@of("balancekv", "weighted_random")
def without_rounds_it_is_the_weighted_sample() -> None:
    ours = held("balancekv(rounds=0, sinks=0, recent=0) @ 20tok")
    for a, b in zip(ours, held("weighted_random @ 20tok"), strict=True):
        assert torch.equal(a.ordinals, b.ordinals)
        assert a.logw is not None and b.logw is not None
        assert_close(a.logw, b.logw, "score_fp32")


@of("balancekv")
def without_pull_it_does_not_look_at_the_text() -> None:
    blind = "balancekv(gamma=0, sinks=3, recent=5) @ 20tok"
    assert kept(blind) == kept(blind, text_seed=1) != kept(blind, seed=1)
    seeing = "balancekv(sinks=3, recent=5) @ 20tok"
    assert kept(seeing) != kept(seeing, text_seed=1)


@of("balancekv")
def weights_bring_the_mass_back_that_would_be_missing() -> None:
    """On average over queries: two thirds are missing without them."""
    q = torch.randn(400, 16, generator=torch.Generator().manual_seed(3))
    for layer, entries in enumerate(held("balancekv(sinks=3, recent=5) @ 24tok")):
        want = (0.25 * q @ stock.prompt(N).keys[layer].mT).exp().sum(-1)
        bare = 0.25 * q @ entries.keys()[0].mT
        assert entries.logw is not None
        share, without = ((x.exp().sum(-1) / want).mean(-1) for x in (bare + entries.logw[0][:, None], bare))
        assert (without < 0.4).all() and (share > 0.65).all() and (share < 1.1).all()


def signatures(layer: int, window: int) -> tuple[Tensor, list[set[int]]]:
    """Votes [H, N] of snapkv, and the tokens that every head ranks in the better half of the others."""
    seen = stock.prompt(N)
    mean = seen.grouped(seen.attention[layer][:, -window:].mean(1))
    votes = functional.avg_pool1d(mean[None], 5, 1, 2)[0]
    half = math.ceil((N - window) / 2)
    return votes, [set(row[: N - window].topk(half).indices.tolist()) for row in votes]


@of("kvcrush")
def the_best_and_evenly_spaced_losers() -> None:
    n, w, n_other = 27, 7, 5
    for layer, heads in enumerate(kept(f"kvcrush(window={w}) @ {n}tok")):
        votes, wanted = signatures(layer, w)
        for head, stays in enumerate(heads):
            base = best(votes, n - n_other, recent=w)[head]
            losers = [t for t in range(N) if t not in base]
            distance = {t: sum((t in wanted[h]) != (h % 2 == 1) for h in range(4)) for t in losers}
            losers = sorted(losers, key=lambda t: (distance[t], t))
            others = [losers[i * (len(losers) - 1) // (n_other - 1)] for i in range(n_other)]
            assert len({*base, *others}) == n, "nobody is kept twice"
            assert stays == sorted([*base, *others])
            assert losers[0] in stays and losers[-1] in stays, "the closest and the farthest"


@of("kvcrush", "snapkv")
def without_a_share_it_is_snapkv_and_with_all_of_it_only_representatives() -> None:
    assert kept("kvcrush(window=7, share=0) @ 27tok") == kept("snapkv(window=7) @ 27tok")
    alone = kept("kvcrush(window=7, share=1) @ 27tok")
    for layer, heads in enumerate(alone):
        assert all(head == heads[0] for head in heads), "all heads lose the same, and share the distances"
        assert len(heads[0]) == 27 and heads[0] != kept("snapkv(window=7) @ 27tok")[layer][0]


@of("kvcrush")
def zeros_and_ones_sort_by_how_many_heads_want_a_token() -> None:
    for anchor, sign in (("zeros", 1), ("ones", -1)):
        recipe = (
            f"at prompt: window(7) > mean > pool(5) > representatives(1, {anchor}) > drop(recent=7) @ 8tok"
        )
        for layer, heads in enumerate(kept(recipe)):
            _, wanted = signatures(layer, 7)
            fans = [sum(t in head for head in wanted) for t in range(N - 7)]
            (closest,) = set(heads[0]) - set(range(N - 7, N))
            assert closest == min(range(N - 7), key=lambda t: (sign * fans[t], t))
