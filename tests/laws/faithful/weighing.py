"""Relations of the systems that weigh attention with values, or look at it through noise."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise import KVCache
from keyvalise.store.roll import Roll
from tests.laws.faithful.table import N, check, kept, of
from tests.support import drive, stock
from tests.support.models import tiny

W = 9


def windowed(layer: int, size: int = 5) -> Tensor:
    """The window's mean attention per query head, pooled: [Hq, N]."""
    votes = stock.prompt(N).attention[layer][:, -W:].mean(1)
    return functional.avg_pool1d(votes[None], size, 1, size // 2)[0]


def masses(layer: int) -> Tensor:
    """Accumulated attention per kv head [H, N]."""
    seen = stock.prompt(N)
    return seen.grouped(seen.attention[layer]).sum(1)


def errors(shares: Tensor, values: Tensor) -> Tensor:
    """How far the outputs of all heads that share a decision move, by brute force.

    Every entry is left out in turn, and the others' shares are raised to a sum of one: [n, N] and [n, N, D]
    → [N].
    """
    shares, values = shares.double(), values.double()
    whole, moved = torch.einsum("ht,htd->hd", shares, values), []
    for t in range(shares.shape[1]):
        rest = shares.clone()
        rest[:, t] = 0
        rest /= rest.sum(-1, keepdim=True)
        moved.append((torch.einsum("ht,htd->hd", rest, values) - whole).norm())
    return torch.stack(moved)


def group_errors(scores: Tensor, layer: int) -> Tensor:
    """`errors` for scores of query or kv heads [n, N], as shares, per kv head: [H, N]."""
    values = stock.prompt(N).values[layer]
    shares = (scores / scores.sum(-1, keepdim=True)).unflatten(0, (values.shape[0], -1))
    moved = [errors(a, v.expand(a.shape[0], -1, -1)) for a, v in zip(shares, values, strict=True)]
    return torch.stack(moved)


def projected(layer: int) -> Tensor:
    """‖v W_h‖₁ per query head, from the model's own projection of a vector that only one head fills."""
    seen, matrix = stock.prompt(N), tiny("llama").model.layers[layer].self_attn.o_proj
    lengths = []
    for head in range(8):
        alone = torch.zeros(N, 8, 16)
        alone[:, head] = seen.values[layer][head // 2]
        with torch.no_grad():
            lengths.append(matrix(alone.flatten(1)).abs().sum(-1))
    return torch.stack(lengths)


@of("vatp")
def mass_times_the_length_of_the_value_beside_sinks_and_recents() -> None:
    for p in (1, 2):
        check(
            f"vatp(p={p}, sinks=4)",
            lambda i, p=p: masses(i) * stock.prompt(N).values[i].norm(p=p, dim=-1),  # type: ignore[misc]
            24,
            sinks=4,
            recent=12,
        )
    base = kept("at prompt: mass > drop(sinks=4, recent=50%) @ 24tok")
    assert kept("vatp(sinks=4) @ 24tok") != base


@of("vatp", "criticalkv")
def the_group_may_be_reduced_before_or_after() -> None:
    for how in ("mean", "max"):
        first, last = (
            kept(f"at prompt: window({W}) > {chain} > drop(recent={W}) @ 25tok")
            for chain in (f"{how} > value_norm", f"value_norm > {how}")
        )
        assert first == last
    product, early = (
        kept(f"at prompt: window({W}) > {chain} > two_stage > drop(recent={W}) @ 25tok")
        for chain in ("output_norm(group=product)", "mean > output_norm")
    )
    assert product == early


@of("caote")
def how_far_the_output_of_the_group_moves_without_an_entry() -> None:
    check(f"caote(window={W})", lambda i: group_errors(windowed(i), i), 25, recent=W)
    check(
        f"caote(window={W}, heads=reduced)",
        lambda i: group_errors(stock.prompt(N).grouped(windowed(i)), i),
        25,
        recent=W,
    )


@of("caote")
def the_mean_value_in_place_of_the_output() -> None:
    def fast(layer: int) -> Tensor:
        values, a = stock.prompt(N).values[layer], windowed(layer)
        a = a / a.sum(-1, keepdim=True)
        far = (values - values.mean(1, keepdim=True)).norm(dim=-1)
        return far * (a / (1 - a)).unflatten(0, (4, 2)).square().sum(1).sqrt()

    check(f"caote(window={W}, centre=mean)", fast, 25, recent=W)
    assert kept(f"caote(window={W}, centre=mean) @ 25tok") != kept(f"caote(window={W}) @ 25tok")


@of("caote")
def it_stands_on_accumulated_mass_and_on_one_set_per_layer_too() -> None:
    check(
        "at prompt: mass > output_error > drop(recent=10)",
        lambda i: group_errors(masses(i), i),
        20,
        recent=10,
    )
    seen = stock.prompt(N)

    def whole_layer(layer: int) -> Tensor:
        mean = seen.attention[layer][:, -1].mean(0)
        return errors(mean.expand(4, -1), seen.values[layer]).expand(4, -1)

    check("tova > output_error", whole_layer, 20)
    assert all(head == heads[0] for heads in kept("tova > output_error @ 20tok", 1, 1) for head in heads)
    assert [len(head) for head in kept("h2o > output_error @ 20tok", 1, 1)[0]] == [20] * 4


@of("caote")
def no_other_single_entry_costs_the_newest_query_less() -> None:
    """With the attention of one query as the score, the entry that is dropped is the best one to drop."""
    seen = stock.prompt(N)
    for layer, heads in enumerate(kept(f"at prompt: window(1) > output_error > drop @ {N - 1}tok")):
        shares = seen.attention[layer][:, -1].unflatten(0, (4, 2))
        for h, head in enumerate(heads):
            moved = errors(shares[h], seen.values[layer][h].expand(2, -1, -1))
            (gone,) = {*range(N)} - {*head}
            assert float(moved[gone]) <= float(moved.min()) * (1 + 1e-4)


@of("criticalkv")
def half_by_attention_half_by_attention_times_what_reaches_the_output() -> None:
    n = 26
    for heads in ("exact", "product"):
        found = kept(f"criticalkv(window={W}, heads={heads}) @ {n}tok")
        for layer in range(3):
            votes, lengths = windowed(layer), projected(layer)
            base = stock.prompt(N).grouped(votes)
            weighed = stock.prompt(N).grouped((votes + 1e-4) * lengths)
            if heads == "product":
                weighed = (base + 1e-4) * stock.prompt(N).grouped(lengths)
            for h, head in enumerate(found[layer]):
                window = {*range(N - W, N)}
                rest = sorted({*range(N)} - window, key=lambda t: -float(base[h, t]))
                first = window | {*rest[: n // 2 - W]}
                rest = sorted({*range(N)} - first, key=lambda t: -float(weighed[h, t]))
                assert head == sorted(first | {*rest[: n - len(first)]}), f"layer {layer}, head {h}"
    assert kept(f"criticalkv(window={W}) @ {n}tok") != kept(f"snapkv(window={W}) @ {n}tok")


@of("criticalkv", "snapkv")
def all_by_attention_is_the_base() -> None:
    assert kept(f"criticalkv(window={W}, share=1) @ 25tok") == kept(f"snapkv(window={W}) @ 25tok")
    one_stage = kept(f"at prompt: window({W}) > pool(5) > output_norm > mean > drop(recent={W}) @ 25tok")
    assert kept(f"criticalkv(window={W}, share=0) @ 25tok") == one_stage


@of("criticalkv", "adakv")
def heads_compete_by_attention_alone() -> None:
    weighed = kept(f"criticalkv(window={W}) > adaptive @ 25tok")
    plain = kept(f"snapkv(window={W}) > adaptive @ 25tok")
    counts = [[len(head) for head in heads] for heads in plain]
    assert [[len(head) for head in heads] for heads in weighed] == counts
    assert any(len({*row}) > 1 for row in counts) and weighed != plain


@of("criticalkv")
def what_is_kept_bounds_how_far_the_output_of_every_head_moves() -> None:
    """For random sets: ‖o − o'‖₁ ≤ Σ a‖w‖ − (2 − 1/S)·Σ_kept a‖w‖, w projected values, S the mass kept."""
    generator = torch.Generator().manual_seed(5)
    for layer in range(3):
        seen, weight = stock.prompt(N), tiny("llama").model.layers[layer].self_attn.o_proj.weight
        for head in range(8):
            a = seen.attention[layer][head, -1].double()
            w = (seen.values[layer][head // 2] @ weight[:, 16 * head : 16 * head + 16].T).double().detach()
            for share in (0.2, 0.5, 0.9):
                mask = torch.rand(N, generator=generator) < share
                kept_mass, products = a[mask].sum(), a * projected(layer)[head]
                moved = (a @ w - (a * mask / kept_mass) @ w).abs().sum()
                bound = products.sum() - (2 - 1 / kept_mass) * products[mask].sum()
                assert float(moved) <= float(bound) + 1e-6


@of("keyformer", "h2o")
def without_noise_at_temperature_one_it_is_accumulated_mass() -> None:
    quiet = "keyformer(noise=none, tau_delta=0, recent=50%) @ 20tok"
    for steps in ((), (1, 1, 1), (3, 1)):
        assert kept(quiet, *steps) == kept("h2o @ 20tok", *steps)
    assert kept("keyformer(noise=none, recent=50%) @ 20tok") == kept("h2o @ 20tok"), (
        "a prompt is not flattened"
    )


@of("keyformer")
def a_flattened_softmax_of_the_logits() -> None:
    seen = stock.prompt(N)

    def flat(layer: int) -> Tensor:
        flattened = (seen.attention[layer].log() / 1.7).softmax(-1)
        return seen.grouped(flattened).sum(1)

    check("keyformer(noise=none, tau_init=1.7, recent=0)", flat, 20)


@of("keyformer")
def an_endless_temperature_counts_those_who_could_see() -> None:
    oldest = [[list(range(20))] * 4] * 3
    assert kept("keyformer(noise=none, tau_init=1000, recent=0) @ 20tok") == oldest
    assert kept("keyformer(noise=sample, tau_init=1000, recent=0) @ 20tok") == oldest


@of("keyformer")
def seeds_differ_in_few_entries_and_agree_with_themselves() -> None:
    one, again, other = (kept("keyformer @ 30tok", 1, 1, seed=seed) for seed in (0, 0, 1))
    assert one == again and one != other
    pairs = list(zip(itertools.chain(*one), itertools.chain(*other), strict=True))
    common = sum(len({*a} & {*b}) for a, b in pairs) / sum(len(a) for a, _ in pairs)
    assert common > 0.75, "noise averages out over the queries of a prompt"


@of("keyformer")
def the_mean_over_draws_lies_nearer_to_the_mean_over_seeds() -> None:
    def distance(noise: str) -> float:
        sums = [noisy_mass(noise, seed) for seed in range(12)]
        return float((torch.stack(sums) - torch.stack(sums).mean(0)).square().mean().sqrt())

    assert distance("expected") < 0.7 * distance("sample")


def noisy_mass(noise: str, seed: int) -> Tensor:
    """The column of scores of the middle layer after a prompt, [H, N]."""
    cache = KVCache(tiny("llama"), f"keyformer(noise={noise}) @ 100%", seed=seed)
    drive.run(tiny("llama"), cache, drive.text(N).calls(N))
    columns = Roll.of(cache.shared.layers[1].memory).entries.columns
    (column,) = columns.values()
    assert not math.isclose(float(column.sum()), 0.0)
    return column[0]


@of("keyformer")
def the_newest_stay_and_nobody_returns() -> None:
    before = kept("keyformer @ 20tok")
    for step in range(1, 4):
        after = kept("keyformer @ 20tok", *[1] * step)
        for old, new in zip(itertools.chain(*before), itertools.chain(*after), strict=True):
            assert {*new} - {*old} == {N + step - 1} and len(new) == 20
            assert {*range(N + step - 6, N + step)} <= {*new}
        before = after
