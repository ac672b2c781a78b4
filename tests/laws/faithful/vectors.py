"""Codes of whole vectors: exact where they can be, bounded where not, better with what was learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise import KVCache, Recipe
from keyvalise.ops import affine, hqq, rope
from keyvalise.recipe import catalogue
from keyvalise.store.roll import Roll
from keyvalise.train import trainers
from keyvalise.train.texts import Texts
from keyvalise.types.data import Env
from tests.laws.faithful.table import N, of
from tests.support import coding, drive, stock
from tests.support.models import tiny


def learn(recipe: str, *seeds: int) -> None:
    """Train what a recipe names on these texts."""
    texts = Texts(len(seeds), lambda i: drive.text(N, seed=seeds[i]).ids, {"split": "train"})
    for one in trainers.wanted(Recipe.parse(recipe), tiny("llama")):
        trainers.make(trainers.job(one, tiny("llama"), texts, tokens=N, is_shown=False))


def logits(recipe: str) -> Tensor:
    """Of ten steps behind a prompt of sixty tokens."""
    calls = drive.text(N).calls(N - 10, *[1] * 10)
    return torch.cat(drive.run(tiny("llama"), KVCache(tiny("llama"), recipe), calls).logits[1:], 1)


def off(recipe: str) -> float:
    """How far they are from those of the full cache, relative."""
    want = logits("full")
    return float((logits(recipe) - want).norm() / want.norm())


def keys_off(recipe: str) -> float:
    """How far keys that come back are from their own, over their spread."""
    cache = KVCache(tiny("llama"), recipe)
    drive.run(tiny("llama"), cache, drive.text(N).calls(N))
    found = [Roll.of(held.memory).entries.keys()[0] for held in cache.shared.layers.values()]
    want = stock.prompt(N).keys
    spread = sum(float((x - x.mean(1, keepdim=True)).square().sum()) for x in want)
    return sum(float((x - y).square().sum()) for x, y in zip(found, want, strict=True)) / spread


def there_and_back(code: Any, keys: Tensor) -> Tensor:
    env = Env(0, KVCache(tiny("llama")).shared.geometry)
    return coding.again(code, env, keys, keys)[0]


def keys() -> Tensor:
    """Of the second layer, [H·N, D]."""
    return stock.prompt(N).keys[1].flatten(0, 1).float()


@of("hqq")
def no_group_errs_more_than_with_its_minimum_as_offset() -> None:
    x = keys()
    for bits in (1, 2, 4):
        errors = []
        for scales in (affine.fit(x, bits), hqq.fit(x, bits)):
            codes = affine.quantize(x, scales[:, :1], scales[:, 1:], bits)
            again = affine.dequantize(codes, scales[:, :1], scales[:, 1:])
            errors.append((x - again).abs().pow(hqq.POWER).mean(-1))
        assert bool((errors[1] <= errors[0]).all()) and float((errors[1] < errors[0]).float().mean()) > 0.2


@of("hqq")
def it_weighs_what_integers_weigh_and_many_bits_lose_nothing() -> None:
    shape = KVCache(tiny("llama")).shared.geometry
    for bits in (2, 4, 8):
        own, plain = catalogue.part("hqq")(bits), catalogue.part(f"int{bits}")()
        assert own.bytes_per_entry(shape) == plain.bytes_per_entry(shape)
    assert off("hqq(bits=8, residual=0)") < 0.03 < off("hqq(bits=2, residual=0)")


@of("lvq")
def a_number_errs_by_half_a_step_of_its_vector_and_less_on_the_second_level() -> None:
    x = keys()
    spread = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)
    parameters = x.abs().amax() * 2.0**-10  # step and offset are float16
    for bits, second in ((8, 0), (4, 0), (4, 4)):
        error = (there_and_back(catalogue.part("vector")(bits, second), x) - x).abs()
        step = spread / (2**bits - 1) / (2**second - 1 if second else 1)
        assert bool((error <= step / 2 * 1.01 + parameters).all())


@of("lvq")
def what_all_keys_have_in_common_costs_nothing() -> None:
    x = keys()
    biased = x.clone()
    biased[:, 3] += 40
    vector = catalogue.part("vector")(4)
    alone = float((there_and_back(vector, biased) - biased).norm())
    without = float((there_and_back(vector, biased - biased.mean(0)) - (biased - biased.mean(0))).norm())
    assert without < 0.2 * alone and float((there_and_back(vector, x) - x).norm()) > 0.8 * without
    assert off("lvq(residual=0)") < 0.05


@of("leanvec")
def full_rank_changes_no_logit() -> None:
    learn("lean(projections=lean_whole) > fp16", 1, 2)
    assert off("lean(rank=100%, projections=lean_whole) > fp16(residual=0)") < 0.005


@of("leanvec")
def queries_are_answered_better_than_from_principal_components() -> None:
    """On the text that both learned from; of random weights another says nothing."""
    learn("lean(projections=lean_own) > fp16", 0)
    learn("svd(basis=svd_own) > fp16", 0)
    prompt, heads = stock.prompt(N), []
    caches = []
    for recipe in ("lean(rank=4, projections=lean_own)", "svd(rank=4, values=100%, basis=svd_own)"):
        caches.append(KVCache(tiny("llama"), f"{recipe} > fp16(residual=0)"))
        drive.run(tiny("llama"), caches[-1], drive.text(N).calls(N))
    turn = KVCache(tiny("llama"), "center > int8").shared.ropes[0]
    assert turn is not None
    for layer in range(3):
        want, lost = prompt.keys[layer], []
        queries = rope.apply(prompt.raw_queries[layer], torch.arange(N), turn).unflatten(0, (4, 2))
        for cache in caches:
            got = Roll.of(cache.shared.layers[layer].memory).entries.keys()[0]
            found = queries @ (got - want)[:, None].mT
            lost.append((found - found.mean(-1, keepdim=True)).square().mean((1, 2, 3)))
        heads.append(lost[0] <= lost[1])
    assert float(torch.cat(heads).float().mean()) >= 0.8


@of("lowrank")
def less_rank_errs_more_and_full_rank_is_half_precision() -> None:
    learn("svd(basis=svd_ranks) > fp16", 0, 1)
    recipe = "lowrank(rank={}, values=100%, residual=0, basis=svd_ranks)"
    errors = [keys_off(recipe.format(rank)) for rank in (2, 4, 8, 12, 16)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.3 and errors[-1] < 1e-5
    assert off("lowrank(rank=16, values=16, residual=0, basis=svd_ranks)") < 0.005


@of("pq", "rq")
def where_every_vector_has_a_codeword_nothing_is_lost() -> None:
    """As many codewords as there are tokens to learn from: every one is some token's."""
    for name, words in (("few", 16), ("all", N)):
        for recipe in (
            f"pq(parts=4, codewords={words}, codebook=pieces_{name}, residual=0)",
            f"pq(parts=1, codewords={words}, codebook=one_{name}, residual=0, norm=true, side=post)",
            f"rq(stages=1, codewords={words}, codebook=stage_{name}, residual=0)",
        ):
            learn(recipe, 0)
            assert (keys_off(recipe) < 1e-4) == (name == "all")


@of("pq")
def more_pieces_and_more_codewords_err_less() -> None:
    errors = {}
    for parts, words in ((2, 16), (4, 16), (8, 16), (4, 4), (4, 32)):
        recipe = f"pq(parts={parts}, codewords={words}, codebook=pq_{parts}_{words}, residual=0)"
        learn(recipe, 0, 1, 2)
        errors[parts, words] = keys_off(recipe)
    assert errors[2, 16] > errors[4, 16] > errors[8, 16] and errors[4, 4] > errors[4, 16] > errors[4, 32]


@of("rq")
def every_stage_errs_less_than_the_one_before_and_a_beam_less_than_greed() -> None:
    errors = []
    for stages in (1, 2, 4):
        recipe = f"rq(stages={stages}, codewords=16, codebook=rq_{stages}, residual=0)"
        learn(recipe, 0, 1, 2)
        errors.append(keys_off(recipe))
    assert errors == sorted(errors, reverse=True)
    assert keys_off("rq(stages=4, codewords=16, beam=8, codebook=rq_4, residual=0)") < errors[-1]
