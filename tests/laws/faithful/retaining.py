"""Relations of scores that a trained head foresees when a token comes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

import keyvalise
from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.host.model import host_layers
from keyvalise.store import asset
from keyvalise.store.roll import Roll
from keyvalise.types.data import Entries
from tests.laws.faithful.table import N, check, of
from tests.support import drive, profiles
from tests.support.compare import assert_close
from tests.support.models import tiny


def foreseen(layer: int, n: int = N) -> Tensor:
    """[H, N]: the published formula on what the projections say, before any rotation."""
    model, said = tiny("llama"), []
    attention = model.model.layers[layer].self_attn
    hooks = [
        getattr(attention, f"{name}_proj").register_forward_hook(lambda *call: said.append(call[2][0]))
        for name in "qkv"
    ]
    try:
        with torch.no_grad():
            model(drive.text(n).ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    heads = asset.read(assets.find("locret", model)).tensors
    inner = functional.silu(torch.cat(said, -1) @ heads["fc1"][layer].T)
    return (inner @ heads["fc2"][layer].T).T


@of("locret")
def what_the_heads_foresee_stays_whatever_comes_later() -> None:
    check("locret(recent=5)", foreseen, 17, recent=5)
    check("locret(recent=5, sinks=2)", foreseen, 30, sinks=2, recent=5)
    short, whole = foreseen(2, 40), foreseen(2, N)
    assert_close(short, whole[:, :40], "score_fp32")


@of("locret")
def chunks_protect_their_newest_and_the_last_one_does_not() -> None:
    """In the first layer nothing depends on what was dropped, so that the loop over chunks can be plain."""
    budget, chunk, stable, local = 20, 13, 9, 3
    text = (
        f"at prompt: retaining > drop(recent={local}) @ {budget}tok; "
        f"every {chunk} in prompt: retaining > drop(recent={stable}) @ {budget}tok"
    )
    for n in (N, 5 * chunk, chunk + 1, 7):
        scores = foreseen(0, n)
        cache = KVCache(tiny("llama"), text)
        (kept,) = drive.run(tiny("llama"), cache, drive.text(n).calls(n)).kept
        for head, mine in enumerate(kept[0][0]):
            held: list[int] = []
            for begin in range(0, n, chunk):
                end = min(begin + chunk, n)
                held += range(begin, end)
                newest = local if end == n else stable
                order = sorted(held, key=lambda t: (t >= end - newest, float(scores[head, t])))
                held = sorted(order[-budget:])
            assert mine == held, f"{n} tokens, head {head}"


@of("locret")
def nothing_leaves_while_decoding() -> None:
    cache = KVCache(tiny("llama"), "locret @ 20tok")
    kept = drive.run(tiny("llama"), cache, drive.text(N + 7).calls(N, *[1] * 7)).kept
    for layer, rows in kept[-1].items():
        for now, before in zip(rows[0], kept[0][layer][0], strict=True):
            assert now == before + list(range(N, N + 7))


@of("locret")
def a_budget_that_holds_the_prompt_changes_nothing() -> None:
    model, calls = tiny("llama"), drive.text(N + 3).calls(N, 1, 1, 1)
    want = drive.run(model, KVCache(model), calls).logits
    for text in ("locret @ 70tok", "locret(positions=slot) @ 99tok"):
        got = drive.run(model, KVCache(model, text), calls).logits
        for mine, theirs in zip(got, want, strict=True):
            assert_close(mine, theirs, "logits_fp32", what=text)


@of("locret")
def by_slot_only_the_order_of_what_was_kept_counts() -> None:
    keyvalise.detach(tiny("llama"))
    model = copy.deepcopy(tiny("llama"))
    model.model.layers, model.config.num_hidden_layers = model.model.layers[:1], 1
    assert len(host_layers(profiles.give(model))) == 1
    heads = asset.read(assets.find("locret", model))
    # All heads foresee the same, and so keep the same.
    even = {**heads.tensors, "fc2": heads.tensors["fc2"][:, :1].expand(-1, 4, -1)}
    asset.write(assets.find("locret", model), asset.Asset(heads.kind, even, heads.header))
    text = drive.text(61)
    *calls, last = text.calls(60, 1)
    cache = KVCache(model, "locret(positions=slot, recent=2) @ 13tok")
    (trail,) = drive.run(model, cache, calls).kept
    assert len({tuple(head) for head in trail[0][0]}) == 1
    ids = text.ids[:, [*trail[0][0][0], 60]]
    (got,) = drive.run(model, cache, [last]).logits
    want = drive.run(model, KVCache(model), [drive.Call(ids, torch.ones_like(ids), torch.arange(14)[None])])
    assert_close(got[0, 0], want.logits[0][0, -1], "logits_fp32")


@of("locret")
def scores_do_not_know_where_a_text_was_cut() -> None:
    columns = []
    for widths in ((N,), (1, 30, 39), (64, 6)):
        cache = KVCache(tiny("llama"), "at prompt, every 99: retaining > drop @ 99%")
        cache.prompt_ends(N + 1)
        drive.run(tiny("llama"), cache, drive.text(N).calls(*widths))
        columns.append([one.columns["retaining_locret"] for one in entries(cache)])
    for other in columns[1:]:
        for mine, theirs in zip(other, columns[0], strict=True):
            assert_close(mine, theirs, "score_fp32")


def entries(cache: KVCache) -> list[Entries]:
    """What every layer holds."""
    return [Roll.of(layer.memory).entries for layer in cache.shared.layers.values()]
