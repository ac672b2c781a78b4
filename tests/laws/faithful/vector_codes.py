"""Codes of vectors: what is read is what the papers' formulas make of what is written."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache
from keyvalise.host.model import rope_of
from keyvalise.ops import rope
from keyvalise.recipe.words import make
from keyvalise.reference import tasks
from keyvalise.store.coded import Coded
from keyvalise.train.readings import Reader
from keyvalise.types.code import Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Rope
from tests.laws.faithful.table import N, of
from tests.laws.faithful.vectors import keys_off, learn, off
from tests.support import coding, drive, profiles, stock
from tests.support.compare import assert_close
from tests.support.models import tiny

DIM = 16
"""Of the tiny Llama's heads."""


def coded(recipe: str, n: int = 64) -> tuple[list[Coded], list[Rope]]:
    """What every layer holds of a prompt of n tokens, and its rotary embedding."""
    keyvalise.detach(tiny("llama"))
    model = profiles.give(tiny("llama"))
    cache = KVCache(model, recipe)
    drive.run(model, cache, drive.text(n).calls(n))
    held = [layer.memory.segments[0] for layer in cache.shared.layers.values()]
    assert all(isinstance(segment, Coded) and segment.bounds[-1] == 4 * n for segment in held)
    shape = cache.shared.geometry
    return held, [rope_of(model, shape, layer) for layer in range(3)]  # type: ignore[misc]


def spread(x: Tensor) -> Tensor:
    """x·H with the Sylvester matrix, row by row."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    matrix = functools.reduce(torch.kron, [two] * 4) / 4
    return x @ matrix


@of("nsnquant")
def what_is_read_is_the_formula_of_what_is_written() -> None:
    """s₁·(s₂·Hc + R·o) with the tensors one by one; values without R."""
    held, ropes = coded("nsnquant(residual=0)")
    for segment, turn in zip(held, ropes, strict=True):
        entry, group = segment.codes.entry, segment.codes.group
        vectors = segment.env.fixed["octets"]["positive"]
        places, found = torch.arange(64).repeat(4), segment.decoded(0, 256)
        for i, name in enumerate(("keys", "values")):
            signs = (entry[name][:, 2:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
            c = (vectors[entry[name][:, :2].long()] * (2.0 * signs - 1)).flatten(1)
            nibbles = torch.stack([group[f"means_{name}"] & 15, group[f"means_{name}"] >> 4], 1).flatten(1)
            of_means, of_sizes = group[f"of_means_{name}"].float(), group[f"of_sizes_{name}"].float()
            mean = of_means[:, 0, 1:] + of_means[:, 0, :1] * nibbles
            size = of_sizes[:, 1:] + of_sizes[:, :1] * (entry["sizes"] >> 4 * i & 15).view(4, 64)
            rest = entry[f"scales_{name}"].float()[:, None] * spread(c)
            mean = mean.repeat_interleave(64, 0)
            mean = rope.apply(mean, places, turn) if name == "keys" else mean
            assert torch.allclose(size.flatten()[:, None] * (rest + mean), found[i].float(), atol=1e-4)


@of("nsnquant")
def windows_of_real_keys_become_noise() -> None:
    """Every channel has a mean of 0 and a variance of 1, and no longer tails than a normal number."""
    for layer in readings():
        keys = layer[0][:, :448].unflatten(1, (7, 64))
        scaled = keys / keys.square().mean(-1, keepdim=True).sqrt()
        rest = scaled - scaled.mean(2, keepdim=True)
        rest = rest / rest.square().mean(-1, keepdim=True).sqrt()
        two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        mixed = (rest @ (functools.reduce(torch.kron, [two] * 5) / 32**0.5)).flatten()
        assert abs(float(mixed.mean())) < 0.05 and abs(float(mixed.var()) - 1) < 0.05
        assert abs(float(mixed.pow(4).mean() / mixed.var() ** 2) - 3) < 0.5


@functools.cache
def readings() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Keys before and behind the embedding [H, T, D], and queries, of the reference model on one document."""
    model, tokenizer = keyvalise.reference()
    page = tasks.generate("multikey", tokens=512, seed=5, kind="dense")
    ids, found = tokenizer(page.document, return_tensors="pt").input_ids, []
    for is_turned_back in (True, False):
        layers: list[tuple[Tensor, Tensor]] = []
        Reader(model, (), is_turned_back).read(ids, lambda _, x, to=layers: to.append((x.keys, x.queries)))
        found.append(layers)
    return [(raw[0], turned[0], turned[1]) for raw, turned in zip(*found, strict=True)]


@of("nsnquant")
def logits_of_real_keys_err_less_than_kivis_in_fewer_bits() -> None:
    model, _ = keyvalise.reference()
    shape = KVCache(model, "nsnquant").shared.geometry
    nsn, kivi = make("nsnquant"), make("kivi")
    assert nsn.bytes_per_entry(shape) < 0.95 * kivi.bytes_per_entry(shape)
    fixed = KVCache(model, "nsnquant").shared.fixed
    better = []
    for layer, (_, keys, queries) in enumerate(readings()):
        env = Env(layer, shape, rope_of(model, shape, layer), fixed=fixed)
        for head in range(4):
            k, q = keys[head, :448], queries[2 * head : 2 * head + 2, 448:].flatten(0, 1)
            errors = [logit_error(code, env, k, q) for code in (nsn, kivi)]
            better.append(errors[0] < errors[1])
    assert sum(better) >= 0.9 * len(better)


def logit_error(code: object, env: Env, keys: Tensor, q: Tensor) -> float:
    """Squared error of what queries have with keys, weighed by their attention, less what all have alike."""
    where = Where(*[torch.zeros(len(keys), dtype=torch.long)] * 2, positions=torch.arange(len(keys)))
    codes = coding.encode(code, env, keys, keys, where)
    near = code.decode(env, codes, where, torch.float32)[0]  # type: ignore[attr-defined]
    want = q @ keys.T * env.geometry.scale
    weights, off = want.softmax(-1), q @ (near - keys).T * env.geometry.scale
    off = off - (weights * off).sum(-1, keepdim=True)
    return float((weights * off.square()).sum())


def errors(recipes: list[str]) -> list[float]:
    """Of the logits of decoded tokens, as a share."""
    keyvalise.detach(tiny("llama"))
    model, calls = profiles.give(tiny("llama")), drive.text(N).calls(61, *[1] * (N - 61))

    def answers(recipe: str) -> Tensor:
        return torch.cat(drive.run(model, KVCache(model, recipe), calls).logits[1:], 1)

    want = answers("full")
    return [float((answers(recipe) - want).norm() / want.norm()) for recipe in recipes]


@of("nsnquant")
def fewer_bits_of_noise_err_more() -> None:
    two, one = errors(["nsnquant(group=8, residual=0)", "nsnquant(1, group=8, residual=0)"])
    assert 0 < two < one


def nothing_is_lost_while_all_stay_raw(recipe: str) -> Callable[[], None]:
    def relation() -> None:
        keyvalise.detach(tiny("llama"))
        model, calls = profiles.give(tiny("llama")), drive.text(63).calls(61, 1, 1)
        want = drive.run(model, KVCache(model), calls).logits
        for a, b in zip(drive.run(model, KVCache(model, recipe), calls).logits, want, strict=True):
            assert_close(a, b, "logits_fp32")

    return relation


of("nsnquant")(nothing_is_lost_while_all_stay_raw("nsnquant"))
of("commvq")(nothing_is_lost_while_all_stay_raw("commvq"))


@of("commvq")
def a_keys_code_does_not_depend_on_where_it_stands() -> None:
    """Codes of keys are those of keys before the embedding, which is what commutes with it."""
    held, ropes = coded("commvq(residual=0)")
    part, keys = make("commvq"), stock.prompt(64).keys
    for segment, turn, mine in zip(held, ropes, keys, strict=True):
        plain = rope.unrotate(mine.flatten(0, 1), torch.arange(64).repeat(4), turn)
        heads = torch.arange(4).repeat_interleave(64)
        codes = part.encode(segment.env, plain, plain, Where(heads, heads), {})
        same = (codes.entry["keys"] == segment.codes.entry["keys"]).all(-1).float().mean()
        assert float(same) > 0.99


@of("commvq")
def keys_are_sums_of_complex_codewords() -> None:
    """Σ_r c[A_r] + i·c[B_r] over 12 bits for each stage, turned by e^{iφ} pair by pair."""
    held, ropes = coded("commvq(residual=0)")
    for segment, turn in zip(held, ropes, strict=True):
        layer, own = segment.env.layer, segment.env.fixed["commvq"]
        tables = torch.complex(*own["keys"][layer].float().chunk(2, -1))
        middle = torch.complex(*own["middle_keys"][layer].float().chunk(2, -1))
        scale, gain = own["scale_keys"][layer].float()[:, : DIM // 2], own["gain_keys"][layer].float()
        packed = segment.codes.entry["keys"].long()
        first = packed[:, 0] | (packed[:, 1] & 15) << 8
        codes = torch.stack([first, packed[:, 1] >> 4 | packed[:, 2] << 4], 1)
        found = segment.decoded(0, 256)[0].float()
        for i in range(0, 256, 37):
            head, place = divmod(i, 64)
            words = [tables[head, r, c // 64] + 1j * tables[head, r, c % 64] for r, c in enumerate(codes[i])]
            cos, sin = turn.angles(torch.tensor(place))
            key = torch.complex(cos, sin) * (gain[head] * sum(words) / scale[head] + middle[head])
            assert torch.allclose(torch.cat([key.real, key.imag]), found[i], atol=1e-4)


@of("commvq")
def trained_tables_err_less_the_more_bits_there_are() -> None:
    keyvalise.detach(tiny("llama"))
    profiles.give(tiny("llama"))
    untrained = keys_off("commvq(residual=0)")
    learn("commvq", 0)
    two, one = keys_off("commvq(residual=0)"), keys_off("commvq(1, residual=0)")
    assert two < 0.7 * one < 0.5 * untrained
    assert 0 < off("commvq(residual=0)") < off("commvq(1, residual=0)")
    profiles.give(tiny("llama"))
