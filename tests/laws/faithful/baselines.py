"""Relations of the baselines: what the first systems keep, and what the codes hold."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

import keyvalise
from keyvalise import KVCache
from keyvalise.encode.grouped import GroupedEncode
from keyvalise.encode.kivi import KiviEncode
from keyvalise.host.model import rope_of
from keyvalise.store.coded import Coded
from keyvalise.store.roll import Roll
from keyvalise.types.data import Env
from tests.laws.faithful.table import N, check, kept, of
from tests.support import coding, drive, stock
from tests.support.models import tiny


@of("full")
def everything_stays_at_no_cost() -> None:
    assert kept("full", 1, 5) == [[list(range(N + 6))] * 4] * 3
    cache = KVCache(tiny("llama"))
    drive.run(tiny("llama"), cache, drive.text(N).calls(N))
    assert set(cache.ledger().by_field()) == {"keys", "values"}


@of("streaming")
def sinks_and_the_newest_whatever_the_text_says() -> None:
    for n, steps in ((17, 0), (17, 9), (30, 3)):
        seen = N + steps
        want = [[*range(4), *range(seen - n + 4, seen)]]
        for text_seed in (0, 1):
            assert kept(f"streaming @ {n}tok", *[1] * steps, text_seed=text_seed) == [want * 4] * 3
    assert kept("streaming(sinks=0) @ 9tok", 1) == [[list(range(N - 8, N + 1))] * 4] * 3


@of("streaming", "h2o", "tova")
def ten_times_the_budget_is_generated_in_constant_memory() -> None:
    calls = drive.text(200).calls(50, *[1] * 150)
    for name in ("streaming", "h2o", "tova"):
        model, cache, sizes = tiny("llama"), KVCache(tiny("llama"), f"{name} @ 15tok"), set()
        for call in calls:
            drive.run(model, cache, [call])
            sizes.add(cache.nbytes)
            assert len(cache.kept_positions(2)[0][0]) == 15
        assert len(sizes) <= 2, f"{name}: {sizes}"


@of("h2o")
def the_largest_sums_of_attention_and_the_newest_half() -> None:
    seen = stock.prompt(N)
    check("h2o", lambda i: seen.grouped(seen.attention[i]).sum(1), 20, recent=10)


@of("h2o")
def sums_go_on_while_decoding_and_nobody_returns() -> None:
    before, after = kept("h2o @ 20tok"), kept("h2o @ 20tok", 1)
    for old, new in zip(itertools.chain(*before), itertools.chain(*after), strict=True):
        assert len(set(new) - set(old)) == 1 and len(set(old) - set(new)) == 1
        assert N in new
    assert kept("h2o(recent=100%) @ 20tok", 1, 1) == [[list(range(N - 18, N + 2))] * 4] * 3


@of("observed")
def sums_divided_by_those_who_could_see() -> None:
    seen, witnesses = stock.prompt(N), N - torch.arange(N)
    check("observed", lambda i: seen.grouped(seen.attention[i]).sum(1) / witnesses, 20)


@of("observed", "h2o")
def the_sum_favours_early_tokens_and_the_mean_late_ones() -> None:
    sums, means = kept("at prompt: mass > drop @ 20tok"), kept("observed @ 20tok")
    for early, late in zip(itertools.chain(*sums), itertools.chain(*means), strict=True):
        assert early != late
    assert sum(map(sum, itertools.chain(*sums))) < sum(map(sum, itertools.chain(*means)))


@of("snapkv")
def the_window_votes_neighbours_stay() -> None:
    seen = stock.prompt(N)

    def votes(layer: int) -> Tensor:
        mean = seen.grouped(seen.attention[layer][:, -9:].mean(1))
        return functional.avg_pool1d(mean[None], 5, 1, 2)[0]

    check("snapkv(window=9)", votes, 25, recent=9)


@of("snapkv", "h2o")
def a_window_of_the_whole_prompt_ranks_like_accumulated_mass() -> None:
    assert kept(f"snapkv(window={N}, pool=1, recent=0) @ 20tok") == kept("at prompt: mass > drop @ 20tok")


@of("snapkv")
def pooling_over_one_is_no_pooling() -> None:
    pooled = kept("snapkv(window=9, pool=1) @ 25tok")
    assert pooled == kept("at prompt: window(9) > drop(recent=9) @ 25tok")
    assert pooled != kept("snapkv(window=9) @ 25tok")


@of("tova")
def what_the_last_query_looks_at_one_set_per_layer() -> None:
    seen = stock.prompt(N)
    check("tova", lambda i: seen.attention[i][:, -1].mean(0).expand(4, -1), 20)
    after = kept("tova @ 20tok", 1)
    for old, new in zip(kept("tova @ 20tok"), after, strict=True):
        assert len({*new[0]} ^ {*old[0]}) <= 2 and all(head == new[0] for head in new)
        assert len(new[0]) == 20


@of("knorm")
def the_shortest_keys() -> None:
    seen = stock.prompt(N)
    check("knorm", lambda i: -seen.keys[i].norm(dim=-1), 20)


@of("keydiff")
def the_keys_that_point_away_from_the_mean_direction() -> None:
    seen = stock.prompt(N)

    def away(layer: int) -> Tensor:
        unit = functional.normalize(seen.keys[layer], dim=-1)
        return -functional.cosine_similarity(unit, unit.mean(1, keepdim=True), dim=-1)

    check("keydiff", away, 20)


@of("expected")
def the_attention_of_gaussian_queries_to_come_times_the_length_of_the_value() -> None:
    model, seen, future = tiny("llama"), stock.prompt(N), 16
    rope = rope_of(model, KVCache(model).shared.geometry, 0)
    assert rope is not None

    def turn(x: Tensor, position: int) -> Tensor:
        cos, sin = (f(rope.frequencies * position) for f in (torch.cos, torch.sin))
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def score(layer: int) -> Tensor:
        q, keys = seen.raw_queries[layer][:, 4:], seen.keys[layer].repeat_interleave(2, 0)
        mean, turning = q.mean(1), [turn(torch.eye(16), N + ahead).T for ahead in range(future)]
        rotation = torch.stack(turning).mean(0)
        spread = torch.einsum("hnd,hne->hde", q - mean[:, None], q - mean[:, None]) / q.shape[1]
        mean, spread = mean @ rotation.T, rotation @ spread @ rotation.T
        logits = torch.einsum("htd,hd->ht", keys, mean) / 4
        logits = logits + torch.einsum("htd,hde,hte->ht", keys, spread, keys) / 32
        return seen.grouped(logits.softmax(-1)) * seen.values[layer].norm(dim=-1)

    check(f"expected(future={future})", score, 20, sinks=4)


@of("random")
def a_uniform_sample_that_knows_nothing() -> None:
    assert kept("random @ 20tok") == kept("random @ 20tok", text_seed=1)
    sets = {tuple(head) for layer in kept("random @ 20tok") for head in layer}
    assert len(sets) == 12, "layers and heads draw by themselves"
    chances = torch.zeros(N)
    for seed in range(40):
        for head in itertools.chain(*kept("random @ 20tok", seed=seed)):
            chances[head] += 1 / (40 * 12)
    assert float((chances - 20 / N).abs().max()) < 5 * math.sqrt(20 / N * (1 - 20 / N) / 480)


@of("weighted_random")
def the_weighted_sample_stands_for_everything_on_average() -> None:
    model, call = tiny("llama"), drive.text(N).calls(N)
    assert kept("weighted_random @ 20tok") == kept("random @ 20tok")
    q = torch.randn(16, generator=torch.Generator().manual_seed(3))
    for layer in (0, 2):
        logits = 0.25 * stock.prompt(N).keys[layer] @ q
        want, found, bare = logits.exp().sum(-1), [], []
        for seed in range(150):
            cache = KVCache(model, "weighted_random @ 20tok", seed=seed)
            drive.run(model, cache, call)
            entries = Roll.of(cache.shared.layers[layer].memory).entries
            x = 0.25 * entries.keys()[0] @ q
            found.append((x + entries.logw[0]).exp().sum(-1))
            bare.append(x.exp().sum(-1))
        mass = torch.stack(found)
        assert float(((mass.mean(0) - want).abs() / (mass.std(0) / math.sqrt(150))).max()) < 4
        assert (torch.stack(bare).mean(0) < 0.5 * want).all(), "without the weights most mass is missing"


@of("pyramidkv")
def lower_layers_keep_more_and_all_together_the_budget() -> None:
    counts = [{len(head) for head in heads} for heads in kept("pyramidkv(window=7) @ 25tok")]
    (first,), (middle,), (last,) = counts
    assert first > middle > last and first + middle + last == 75
    assert kept("pyramidkv(window=7, beta=1) @ 25tok") == kept("snapkv(window=7) @ 25tok")
    assert kept("pyramidkv(window=7) @ 70tok") == [[list(range(N))] * 4] * 3


@of("adakv")
def heads_compete_above_a_floor() -> None:
    seen, n, w = stock.prompt(N), 25, 7

    def votes(layer: int) -> Tensor:
        mean = seen.grouped(seen.attention[layer][:, -w:].mean(1))
        return functional.max_pool1d(mean[None], 7, 1, 3)[0]

    uniform = kept(f"at prompt: window({w}) > mean > pool(7, max) > drop(recent={w}) @ {n}tok")
    assert kept(f"adakv(window={w}, floor=1) @ {n}tok") == uniform
    free, floored = (
        kept(f"adakv(window={w}, floor=0) @ {n}tok"),
        kept(f"adakv(window={w}, floor=0.6) @ {n}tok"),
    )
    for layer in range(3):
        mine = votes(layer)
        retained = [
            sum(float(mine[h, head].sum()) for h, head in enumerate(found[layer]))
            for found in (free, floored, uniform)
        ]
        assert retained[0] >= retained[1] >= retained[2]
        assert all(sum(map(len, found[layer])) == 4 * n for found in (free, floored))
        assert min(map(len, floored[layer])) >= 15
        rivals = mine[:, : N - w].flatten().topk(4 * (n - w)).values[-1]
        for h, head in enumerate(free[layer]):
            surely = {t for t in range(N) if t >= N - w or mine[h, t] > rivals + 1e-7}
            perhaps = {t for t in range(N - w) if mine[h, t] > rivals - 1e-7}
            assert surely <= set(head) <= surely | perhaps, "pooling makes ties"


@of("kivi", "int8", "int4", "int2")
def the_newest_stay_raw_and_every_token_is_written_once() -> None:
    for text, size in (
        ("kivi(2, group=8, residual=16)", 8),
        *((f"int{b}(group=8, residual=16)", 1) for b in (2, 4, 8)),
    ):
        model, text_ = tiny("llama"), drive.text(N + 40)
        cache, full = KVCache(model, text), KVCache(model)
        first = text_.calls(N)
        drive.run(model, cache, first)
        drive.run(model, full, first)
        written: dict[int, Tensor] = {}
        for call in (None, *text_.calls(N, *[1] * 40)[1:]):
            if call is not None:
                drive.run(model, cache, [call])
            layer = cache.shared.layers[0]
            coded = [segment for segment in layer.memory.segments if isinstance(segment, Coded)]
            (segment,) = coded
            n_coded = segment.counts[0]
            assert n_coded % size == 0 and layer.columns - 16 - size < n_coded + 32
            entries = Roll.of(layer.memory).entries
            for t, key in enumerate(entries.keys()[0, 0, :n_coded]):
                assert torch.equal(written.setdefault(t, key), key), "a code never changes"
        raw = Roll.of(cache.shared.layers[0].memory).entries
        exact = Roll.of(full.shared.layers[0].memory).entries
        start = full.shared.layers[0].memory.clock[0]
        early = list(range(n_coded, start))
        assert torch.equal(raw.keys()[:, :, early], exact.keys()[:, :, early])


@of("kivi", "int8", "int4", "int2")
def nothing_is_written_while_all_fits_into_the_residual() -> None:
    model, calls = tiny("llama"), drive.text(N + 2).calls(N, 1, 1)
    want = drive.run(model, KVCache(model), calls).logits
    for name in ("kivi", "int8", "int4", "int2"):
        got = drive.run(model, KVCache(model, f"{name}(residual=90)"), calls).logits
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@of("int8", "int4", "int2")
def a_number_errs_by_half_a_step_of_its_group() -> None:
    keys, geometry = stock.prompt(N).keys[1].flatten(0, 1), KVCache(tiny("llama")).shared.geometry
    for bits in (8, 4, 2):
        part: type[GroupedEncode] = keyvalise.recipe.catalogue.part(f"int{bits}")
        code = part(channels=8)
        back, _ = coding.decode(
            code, Env(0, geometry), coding.encode(code, Env(0, geometry), keys, keys), torch.float32
        )
        groups = keys.unflatten(-1, (-1, 8))
        step = (groups.amax(-1) - groups.amin(-1)) / (2**bits - 1)
        error = (back - keys).abs().unflatten(-1, (-1, 8)).amax(-1)
        parameters = groups.abs().amax(-1) * 2.0**-10  # step and offset are float16
        assert (error <= step / 2 + parameters).all()
        assert float(error.max()) > 0.2 * float(step.max())


@of("kivi")
def channels_of_outliers_keep_to_themselves() -> None:
    keys, geometry = stock.prompt(64).keys[1].flatten(0, 1).clone(), KVCache(tiny("llama")).shared.geometry
    keys[:, 3] *= 30
    errors = []
    for code in (KiviEncode(2, 32), keyvalise.recipe.catalogue.part("int2")()):
        back, _ = coding.decode(
            code, Env(0, geometry), coding.encode(code, Env(0, geometry), keys, keys), torch.float32
        )
        errors.append(float((back - keys)[:, [c for c in range(16) if c != 3]].abs().mean()))
    assert errors[0] < 0.5 * errors[1]
