"""Profiles of layers: errors of a small set against their formula, shares against the best of all splits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise.ops import water
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train import calibrate, errors, rollouts, shares
from keyvalise.train.errors import Votes
from keyvalise.train.rollouts import Problem
from keyvalise.train.run import Run
from keyvalise.types.errors import AssetError
from tests.support import drive, stock
from tests.support.models import tiny

N = 63
VOTES = Votes(budget=19, window=5, pool=5, heads=3)


def problem(n: int = N, seed: int = 0, task: str = "") -> Problem:
    return Problem(drive.text(n, seed=seed).ids, lambda tokens: True, n - 9, task)


def ranks(model: Any) -> dict[int, torch.Tensor]:
    return calibrate.ranks(model, "semantic_retrieval")


def test_a_set_that_holds_everything_errs_nothing() -> None:
    model = tiny("llama")
    found = errors.of(model, problem(), ranks(model), Votes(budget=N), most=4)
    assert float(found.abs().max()) < 1e-5
    assert float(errors.of(model, problem(), ranks(model), VOTES, most=4).min()) > 1e-2


@pytest.mark.parametrize("asked", [False, True])
def test_errors_are_the_papers_formula(asked: bool) -> None:
    """Once more, plainly, from the matrices that the model itself shows."""
    model, made, voting = tiny("llama"), problem(), ranks(tiny("llama"))
    votes = Votes(19, 5, 5, 3, asked)
    found = errors.of(model, made, voting, votes, most=4)
    end = N if asked else made.document
    ids = model.generate(made.prompt, max_new_tokens=4, do_sample=False)[:, :-1]
    seen = _stock(ids)
    for layer, (attention, values, output) in enumerate(seen):
        best = voting[layer].topk(3).indices
        window = attention[best, end - 5 : end, : end - 5].sum(1)
        pooled = torch.nn.functional.avg_pool1d(window, 5, 1, 2).mean(0)
        kept = sorted([*pooled.topk(14).indices.tolist(), *range(end - 5, end)])
        wide, total = values.repeat_interleave(2, 0), 0.0
        for own in range(N, ids.shape[1]):
            columns = torch.tensor([*kept, *range(end, own + 1)])
            part = attention[:, own, columns]
            part = part / part.sum(-1, keepdim=True)
            small = (part[:, None] @ wide[:, columns]).flatten() @ output
            full = (attention[:, own, : own + 1, None].mT @ wide[:, : own + 1]).flatten() @ output
            total += float((small - full).norm() / (full.norm() + 1e-5))
        assert float(found[layer]) == pytest.approx(total, rel=1e-3)


def _stock(ids: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Per layer: attention [Hq, T, T], values [H, T, D], the output projection [Hq·D, E]."""
    from transformers import DynamicCache

    model, cache = stock.eager(), DynamicCache(config=stock.eager().config)
    with torch.no_grad():
        out = model(ids, past_key_values=cache, output_attentions=True)
    outputs = [layer.self_attn.o_proj.weight.detach().t() for layer in model.model.layers]
    return [
        (a[0], layer.values[0], o) for a, layer, o in zip(out.attentions, cache.layers, outputs, strict=True)
    ]


def test_errors_of_all_layers_are_1_and_tasks_weigh_the_same() -> None:
    model = tiny("llama")
    made = [problem(N + i, i, task) for i, task in enumerate("aaab")]
    steps = Run("eviction_error", 4, {})
    found = calibrate.eviction_errors(model, made, ranks(model), VOTES, steps)
    assert found.shape == (3,) and float(found.sum()) == pytest.approx(1) and float(found.min()) > 0
    alone = [
        calibrate.eviction_errors(model, part, ranks(model), VOTES, Run("e", len(part), {}))
        for part in (made[:3], made[3:])
    ]
    assert torch.allclose(found, (alone[0] + alone[1]) / 2)
    assert not torch.allclose(alone[0], alone[1], rtol=1e-3)
    assert torch.allclose(errors.averaged([torch.tensor([2.0, 6.0])]), torch.tensor([0.25, 0.75]))


def test_sliding_layers_have_no_error() -> None:
    model = tiny("gemma2")
    found = errors.of(model, problem(), ranks(model), VOTES, most=3)
    assert found[0] == 0 and float(found[1:].min()) > 0


def test_mass_is_what_all_queries_pay() -> None:
    found = shares.mass(tiny("llama"), drive.text(N).ids)
    want = torch.stack([matrix.mean(0).sum(0) for matrix in stock.prompt(N).attention])
    assert found.shape == (3, N) and torch.allclose(found, want.double(), atol=1e-4)
    assert torch.allclose(found.sum(-1), torch.full((3,), float(N), dtype=torch.float64), atol=1e-3)


def test_mass_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    want = shares.mass(tiny("gpt_oss"), drive.text(N).ids)
    monkeypatch.setattr(shares, "BLOCK", 13)
    assert torch.allclose(shares.mass(tiny("gpt_oss"), drive.text(N).ids), want, atol=1e-5)


def test_equal_layers_drop_equal_shares() -> None:
    one = torch.rand(30, generator=torch.Generator().manual_seed(1)).double()
    found = shares.dropped(one.expand(4, -1), 0.6)
    assert torch.allclose(found, torch.full((4,), 0.6, dtype=torch.float64))
    assert not shares.dropped(torch.rand(3, 30), 0.0).any()


def test_the_worst_layer_retains_as_much_as_any_split_allows() -> None:
    n = 13
    generator = torch.Generator().manual_seed(3)
    received = torch.rand(3, n, generator=generator).double() ** torch.tensor([[1.0], [3.0], [9.0]])
    found = shares.dropped(received, 0.5, sinks=1, recent=1)
    kept = ((1 - found) * n).round().long()
    assert int(kept.sum()) == round(0.5 * 3 * n) and kept[0] > kept[1] > kept[2]
    place = torch.arange(n)
    guard = (place < 1) | (place >= n - 1)
    worst = float(water.retained(received, kept, guard).min())
    total = int(kept.sum())
    for a, b in itertools.product(range(2, n + 1), repeat=2):
        if 2 <= total - a - b <= n:
            other = torch.tensor([a, b, total - a - b])
            assert float(water.retained(received, other, guard).min()) <= worst + 1e-12


def test_shares_of_several_prompts_are_averaged() -> None:
    model, prompts = tiny("gemma2"), [drive.text(N, seed=i).ids for i in range(3)]
    found = calibrate.prefix_shares(model, prompts, 0.4, Run("prefix", 3, {}))
    each = torch.stack([shares.dropped(shares.mass(model, prompt), 0.4) for prompt in prompts])
    assert found[0] == 0 and torch.allclose(found[1:], each.mean(0))
    assert float(found[1:].mean()) == pytest.approx(0.4, abs=0.5 / N)


@pytest.mark.parametrize("kind", ["eviction_error", "prefix"])
def test_an_interrupted_measurement_ends_as_one_that_was_not(
    kind: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = tiny("llama"), [problem(N + i, i, "ab"[i % 2]) for i in range(5)]

    def go(steps: Run) -> torch.Tensor:
        if kind == "prefix":
            return calibrate.prefix_shares(model, [one.prompt for one in made], 0.5, steps)
        return calibrate.eviction_errors(model, made, ranks(model), VOTES, steps)

    want, path, left = go(Run(kind, 5, {})), tmp_path / "state", [3]

    def stopping(self: Run, tensors: Any) -> None:
        keep(self, tensors)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    keep = Run._keep
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_keep", stopping)
        with pytest.raises(KeyboardInterrupt):
            go(Run(kind, 5, {}, path, every=1))
    again = Run(kind, 5, {}, path, every=1)
    assert torch.equal(go(again), want) and len(again.trail) == 5


def test_heads_of_another_model_do_not_vote(tmp_path: Path) -> None:
    path = tmp_path / "ranks.safetensors"
    asset.write(path, Asset("heads", {"heads": torch.rand(3, 8)}, {"granularity": "q", "model": "0" * 12}))
    with pytest.raises(AssetError, match="was made for the model 000000000000"):
        calibrate.ranks(tiny("llama"), str(path))
    asset.write(path, Asset("heads", {"heads": torch.rand(5, 8)}, {"granularity": "q"}))
    with pytest.raises(AssetError, match="it holds 5 layers of 8 query heads"):
        calibrate.ranks(tiny("llama"), str(path))
    with pytest.raises(AssetError, match=r"no asset 'nothing' for this LlamaForCausalLM.*keyvalise profile"):
        calibrate.ranks(tiny("llama"), "nothing")


def test_a_reference_document_needs_no_question() -> None:
    model, tokenizer = keyvalise.reference()
    made = next(rollouts.problems(model, tokenizer, ("needle",), (128, 128)))
    text = tokenizer.decode(made.prompt[0, : made.document])
    assert "question :" not in text and "question :" in tokenizer.decode(made.prompt[0, made.document :])
    found = shares.dropped(shares.mass(model, made.prompt[:, : made.document]), 0.5)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.01) and float(found.max() - found.min()) > 0.05
