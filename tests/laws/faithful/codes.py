"""Codes and tiers: what a system becomes when one of its parts does nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache
from keyvalise.store.demoted import Demoted
from tests.laws.faithful.table import N, of
from tests.support import drive, profiles
from tests.support.compare import assert_close
from tests.support.models import tiny


@of("mikv")
def whoever_h2o_keeps_is_raw_and_whoever_it_drops_is_demoted() -> None:
    model, calls = tiny("llama"), drive.text(N).calls(61, *[1] * (N - 61))
    mine, theirs = KVCache(model, "mikv(code=int8) @ 20tok"), KVCache(model, "h2o @ 20tok")
    for call in calls[:1]:
        drive.run(model, mine, [call])
        drive.run(model, theirs, [call])
    for layer, held in mine.shared.layers.items():
        lost = next(s for s in held.memory.segments if isinstance(s, Demoted)).held.entries().ordinals
        demoted = [[o for o in head if o >= 0] for head in lost[0].tolist()]
        kept = theirs.kept_positions(layer)[0]
        assert [sorted({*range(61)} - set(head)) for head in kept] == demoted


@of("mikv")
def fewer_bits_for_losers_and_fewer_keepers_err_more() -> None:
    model, calls = tiny("llama"), drive.text(N).calls(61, *[1] * (N - 61))
    want = torch.cat(drive.run(model, KVCache(model), calls).logits[1:], 1)

    def error(recipe: str) -> float:
        got = torch.cat(drive.run(model, KVCache(model, recipe), calls).logits[1:], 1)
        return float((got - want).norm() / want.norm())

    bits = [error(f"mikv(code={code}) @ 20tok") for code in ("int8", "int4", "int2")]
    assert bits == sorted(bits) and bits[0] < 0.1 * error("h2o @ 20tok")
    kept = [error(f"mikv @ {n}tok") for n in (60, 40, 10)]
    assert kept == sorted(kept)


@of("aquakv")
def what_is_foretold_better_errs_less() -> None:
    """Zero predictors know nothing of the layer below; fitted ones leave less to write, and err less."""
    keyvalise.detach(tiny("llama"))
    model, calls = profiles.give(tiny("llama")), drive.text(N).calls(61, *[1] * (N - 61))
    want = torch.cat(drive.run(model, KVCache(model), calls).logits[1:], 1)

    def error(change: Callable[[Tensor], Tensor]) -> float:
        cache = KVCache(model, "aquakv(residual=0)")
        held = {name: change(x.float()) for name, x in cache.shared.fixed["aquakv"].items()}
        cache.shared.fixed = {**cache.shared.fixed, "aquakv": held}
        got = torch.cat(drive.run(model, cache, calls).logits[1:], 1)
        return float((got - want).norm() / want.norm())

    assert error(torch.zeros_like) < error(lambda x: 9 * x), "bad guesses cost precision"


@of("aquakv")
def nothing_is_lost_while_all_stay_raw() -> None:
    model, calls = profiles.give(tiny("llama")), drive.text(N).calls(61, *[1] * (N - 61))
    want = drive.run(model, KVCache(model), calls).logits
    for a, b in zip(drive.run(model, KVCache(model, "aquakv"), calls).logits, want, strict=True):
        assert_close(a, b, "logits_fp32")
