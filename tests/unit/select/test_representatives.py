"""Representatives: exact counts, nobody twice, the ends of the sorted losers, one signature for all heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.select.representatives import ANCHORS, RepresentativesSelect
from keyvalise.select.top import TopSelect
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Entries, Scores
from tests.unit.builders import make_entries, make_env, make_geometry, random

N, H = 63, 4
ENV = make_env(make_geometry(query_heads=8, kv_heads=H))


def choose(
    part: RepresentativesSelect,
    values: Tensor,
    counts: list[list[int]],
    protect: Tensor | None = None,
    entries: Entries | None = None,
) -> Choice:
    check_arguments(part)
    entries = entries or make_entries(torch.zeros(1, H, N, 2))
    protect = torch.zeros(entries.live.shape, dtype=torch.bool) if protect is None else protect
    scores = Scores(values)
    return part.select(ENV, scores, torch.tensor(counts), protect, entries, scores)


def plain(values: Tensor, n: int, n_other: int, anchor: list[int]) -> list[set[int]]:
    """The same by lists: values [H, N], no protection."""
    orders = [row.argsort(descending=True).tolist() for row in values]
    wanted = [set(order[: (N + 1) // 2]) for order in orders]
    found = []
    for order in orders:
        best, losers = order[: n - n_other], order[n - n_other :]
        d = {t: sum((t in wanted[h]) != bool(anchor[h]) for h in range(H)) for t in range(N)}
        losers = sorted(losers, key=lambda t: (d[t], t))
        last = len(losers) - 1
        picked = [losers[i * last // max(n_other - 1, 1)] for i in range(n_other)]
        assert len(set(picked)) == n_other
        assert n_other < 1 or picked[0] == losers[0]
        assert n_other < 2 or picked[-1] == losers[-1], "the farthest is there"
        found.append({*best, *picked})
    return found


@pytest.mark.parametrize(
    ("anchor", "bits"), [("alternate", [0, 1, 0, 1]), ("zeros", [0] * 4), ("ones", [1] * 4)]
)
@pytest.mark.parametrize(
    ("n", "share", "n_other"), [(20, 0.25, 5), (20, 0.06, 1), (21, 1.0, 21), (9, 0.34, 3)]
)
def test_best_and_evenly_spaced_losers(
    anchor: str, bits: list[int], n: int, share: float, n_other: int
) -> None:
    values = random(1, H, N)
    part = RepresentativesSelect(share, anchor)  # type: ignore[arg-type]
    keep = choose(part, values, [[n] * H]).keep
    want = plain(values[0], n, n_other, bits)
    assert [set(row.nonzero()[:, 0].tolist()) for row in keep[0]] == want


@pytest.mark.parametrize("anchor", ANCHORS)
def test_counts_are_exact_and_the_protected_stay(anchor: str) -> None:
    entries = make_entries(torch.zeros(1, H, N, 2), lengths=[[N, 40, 9, N]])
    protect = (torch.arange(N) < 7) & entries.live
    values = random(1, H, N).masked_fill(~entries.live, float("nan"))
    values[0, 3, 20:] = -torch.inf
    part = RepresentativesSelect(0.5, anchor)  # type: ignore[arg-type]
    keep = choose(part, values, [[30, 20, 20, 30]], protect, entries).keep
    assert keep.sum(-1).tolist() == [[30, 20, 9, 20]]
    assert (keep & protect).sum(-1).tolist() == [[7] * 4] and not (keep & ~entries.live).any()
    few = choose(part, values, [[3, 0, 7, 8]], protect, entries).keep
    assert few.sum(-1).tolist() == [[3, 0, 7, 8]]


def test_no_share_is_the_top() -> None:
    values, protect = random(1, H, N), (torch.arange(N) >= 56).expand(1, H, N)
    entries, scores = make_entries(torch.zeros(1, H, N, 2)), Scores(values)
    counts = [[20, 9, 33, N]]
    want = TopSelect().select(ENV, scores, torch.tensor(counts), protect, entries, scores).keep
    assert torch.equal(choose(RepresentativesSelect(0.0), values, counts, protect).keep, want)


def test_renaming_heads_together_with_the_anchor_changes_nothing() -> None:
    values, order = random(1, H, N), [2, 0, 3, 1]
    for anchor in ("zeros", "ones", "mean"):
        part = RepresentativesSelect(0.5, anchor)  # type: ignore[arg-type]
        one, two = (choose(part, v, [[20] * H]).keep for v in (values, values[:, order]))
        assert torch.equal(one[:, order], two)


def test_signatures_are_matched_by_ordinal() -> None:
    """A head that lost some tokens before meets the others' bits at the right ones."""
    values = random(1, H, N)
    whole = choose(RepresentativesSelect(0.5, "zeros"), values, [[20] * H]).keep
    ordinals = torch.arange(N).expand(1, H, N) + 5
    moved = make_entries(torch.zeros(1, H, N, 2), ordinals=ordinals)
    assert torch.equal(
        choose(RepresentativesSelect(0.5, "zeros"), values, [[20] * H], None, moved).keep, whole
    )
    # Head 3 holds every other token: the distance of its own losers still counts the other heads' wishes.
    half = torch.arange(N).expand(1, H, N).clone()
    half[0, 3, :32] = torch.arange(0, N, 2)
    thin = make_entries(torch.zeros(1, H, N, 2), lengths=[[N, N, N, 32]], ordinals=half)
    keep = choose(RepresentativesSelect(1.0, "zeros"), values, [[20, 20, 20, 2]], None, thin).keep
    wanted = [set(row.argsort(descending=True)[:32].tolist()) for row in values[0, :3]]
    own = set(values[0, 3, :32].argsort(descending=True)[:16].tolist())
    d = [sum(2 * i in head for head in wanted) + (i in own) for i in range(32)]
    order = sorted(range(32), key=lambda i: (d[i], i))
    assert keep[0, 3].nonzero()[:, 0].tolist() == sorted((order[0], order[-1]))


def test_votes_of_query_heads_are_their_mean_and_a_layer_has_one_bit() -> None:
    votes, entries = random(1, 8, N), make_entries(torch.zeros(1, H, N, 2))
    scores, protect = Scores(votes.unflatten(1, (H, 2)).mean(2)), torch.zeros(1, H, N, dtype=torch.bool)
    part, counts = RepresentativesSelect(0.5), torch.tensor([[20] * H])
    a = part.select(ENV, scores, counts, protect, entries, Scores(votes)).keep
    assert torch.equal(a, part.select(ENV, scores, counts, protect, entries, scores).keep)
    flat = Scores(random(1, 1, N))
    one = part.select(ENV, flat, counts, protect, entries, flat).keep
    assert torch.equal(one, one[:, :1].expand_as(one))


def test_a_random_anchor_is_another_one_now_and_then() -> None:
    values, entries = random(1, H, N), make_entries(torch.zeros(1, H, N, 2))
    scores, part = Scores(values), RepresentativesSelect(0.5, "random")
    counts, protect = torch.tensor([[20] * H]), torch.zeros(1, H, N, dtype=torch.bool)
    found = set()
    for seed in range(20):
        env = make_env(ENV.geometry, seed=seed)
        keep = part.select(env, scores, counts, protect, entries, scores).keep
        found.add(tuple(keep.flatten().tolist()))
    assert len(found) > 3
