"""Retaining heads are trained: labels by hand, the same end after an interruption, a model left alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.host import model as models
from keyvalise.ops import rope
from keyvalise.reference import shape
from keyvalise.reference.tasks.words import vocabulary
from keyvalise.reference.tokenizer import build_tokenizer
from keyvalise.store import asset
from keyvalise.store.roll import Roll
from keyvalise.train import locret
from keyvalise.train.labels import Page, Reader, borrowed
from keyvalise.train.locret import Course
from keyvalise.train.run import Run
from keyvalise.types.errors import InputError, UnsupportedModel
from tests.support import drive
from tests.support.compare import assert_close, assert_same
from tests.support.models import tiny

COURSE = Course(hidden=24, tokens=(130, 150), questions=2, rate=0.01, warm_up=0.2)


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    """The reference model's shape without its training."""
    known = vocabulary()
    config = shape.config(len(known), bos=known["<s>"], eos=known["</s>"], pad=known["<pad>"])
    return shape.fresh_model(config, seed=3), build_tokenizer()


def plain(model: Any, page: Page, asks: bool) -> tuple[Tensor, Tensor]:
    """(inputs of layer 1, its labels) from hooks on the projections, one whole forward per question."""
    n, said = page.document.shape[1], []
    attention = model.model.layers[1].self_attn
    hooks = [
        getattr(attention, f"{name}_proj").register_forward_hook(lambda *call: said.append(call[2][0]))
        for name in "qkv"
    ]
    shown = models.Geometry.of(model.config)
    turn, best = models.rope_of(model, shown, 1), torch.full((4, n), -torch.inf)
    for question, answer in page.asked:
        said.clear()
        with torch.no_grad():
            model(torch.cat([page.document, torch.tensor([[*question, *answer]])], 1), use_cache=False)
        q, k = (
            rope.apply(x.unflatten(1, (-1, shown.key_dim)).transpose(0, 1), torch.arange(x.shape[0]), turn)
            for x in said[:2]
        )
        first = n if asks else n + len(question) - 1
        logits = shown.scale * (q[:, first:] @ k[:, :n].repeat_interleave(2 if len(q) > len(k) else 1, 0).mT)
        best = torch.maximum(best, logits.unflatten(0, (4, -1)).amax((1, 2)))
    for hook in hooks:
        hook.remove()
    return torch.cat(said, -1)[:n], best


@pytest.mark.parametrize("asks", [False, True])
def test_lessons_are_what_the_projections_said_and_the_answers_looked_at(
    loaded: tuple[Any, Any], asks: bool
) -> None:
    model, tokenizer = loaded
    page = COURSE.page(model, tokenizer, 5, "train")
    assert page.asked
    with borrowed(model):
        lesson = Reader(model, asks).read(page)
    inputs, labels = plain(model, page, asks)
    assert_close(lesson.inputs[1], inputs, "attention_fp32")
    assert_close(lesson.labels[1], labels, "attention_fp32")


@pytest.mark.parametrize("family", ["qwen3", "phi3", "gemma2", "gpt_neox", "gpt2", "gpt_oss"])
def test_other_families_are_read_and_left_alone(family: str) -> None:
    changes = {"num_key_value_heads": 8} if family == "gpt_neox" else {}
    model, text = tiny(family, **changes), drive.text(50)
    keyvalise.detach(model)
    before = models.text_config(model)._attn_implementation
    flags = [weight.requires_grad for weight in model.parameters()]
    page = Page(text.ids[:, :40], (([7, 8, 9], [11, 12]),))
    model.train()
    with borrowed(model):
        reader = Reader(model)
        lesson = reader.read(page)
    assert model.training and models.text_config(model)._attn_implementation == before
    model.eval()
    assert [p.requires_grad for p in model.parameters()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    n_layers, n_inputs, n_heads = reader.shape
    assert lesson.inputs.shape == (n_layers, 40, n_inputs) and lesson.labels.shape == (n_layers, n_heads, 40)
    assert lesson.inputs.isfinite().all() and lesson.labels.isfinite().all()
    # What the observer sees while the model is used is what the heads were trained on.
    cache = KVCache(model, "at prompt: retaining > drop @ 20tok")
    cache.prompt_ends(41)
    drive.run(model, cache, text.calls(40))
    heads = asset.read(assets.find("locret", model)).tensors
    for i, layer in enumerate(cache.shared.layers.values()):
        column = Roll.of(layer.memory).entries.columns["retaining_locret"][0]
        want = locret.Heads(heads["fc1"], heads["fc2"], "silu").predict(lesson.inputs)[i]
        assert_close(column, want, "attention_fp32", what=f"layer {i}")
    keyvalise.detach(model)


def test_models_that_show_no_queries_are_refused() -> None:
    for family in ("bloom", "deepseek_v3"):
        with pytest.raises(UnsupportedModel, match="hands no queries to a cache"), borrowed(tiny(family)):
            pass


def test_angles_that_change_with_length_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    find = models.rope_of
    monkeypatch.setattr(models, "rope_of", lambda *which: replace(find(*which), is_static=False))
    page = Page(drive.text(20).ids, (([7], [8]),))
    with pytest.raises(UnsupportedModel, match="change with length"), borrowed(tiny("llama")):
        Reader(tiny("llama")).read(page)
    assert models.text_config(tiny("llama"))._attn_implementation != "keyvalise"


def stopping(run: Run, at: int) -> Run:
    """A run that is interrupted behind a step."""
    go = run.go

    def until(step: Callable[[int], Any], tensors: Any) -> Any:
        def one(number: int) -> Any:
            if number == at:
                raise KeyboardInterrupt
            return step(number)

        return go(one, tensors)

    run.go = until  # type: ignore[method-assign]
    return run


def test_an_interrupted_run_ends_as_it_would_have(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = loaded
    before = {name: x.clone() for name, x in model.state_dict().items()}
    path = tmp_path / "state"
    straight = Run("locret", 7, {"seed": 0})
    want = locret.learn(model, tokenizer, COURSE, straight)
    with pytest.raises(KeyboardInterrupt):
        locret.learn(model, tokenizer, COURSE, stopping(Run("locret", 7, {"seed": 0}, path, every=2), 5))
    assert list(tmp_path.iterdir()) == [path]
    again = Run("locret", 7, {"seed": 0}, path, every=2)
    got = locret.learn(model, tokenizer, COURSE, again)
    for name, weight in got.weights.items():
        assert_same(weight.detach(), want.weights[name].detach())
    assert again.trail == straight.trail
    with pytest.raises(InputError, match="has seed=0, this one 1"):
        locret.learn(model, tokenizer, COURSE, Run("locret", 7, {"seed": 1}, path))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_short_training_foresees_better_than_chance() -> None:
    model, tokenizer = keyvalise.reference()
    course = Course(hidden=48, tokens=(130, 150), questions=2, rate=0.005, warm_up=0.2)
    untrained = locret.Heads.fresh(course, Reader(model).shape, "cpu")
    run = Run("locret", 40, {})
    heads = locret.learn(model, tokenizer, course, run)
    before, after = (locret.measure(model, tokenizer, one, course, 4).mean() for one in (untrained, heads))
    assert after > 2 * locret.SHARE and after > before + 0.05, f"{before} before, {after} after"
    losses = [figures["loss"] for figures in run.trail]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_heads_that_are_shipped_foresee_what_held_out_answers_look_at() -> None:
    model, tokenizer = keyvalise.reference()
    kept = asset.read(assets.SHIPPED / assets.fingerprint(model) / "locret.safetensors")
    heads = locret.Heads(kept.tensors["fc1"], kept.tensors["fc2"], kept.header["activation"])
    course = Course(tokens=(512, 600), questions=kept.header["questions"])
    found = locret.measure(model, tokenizer, heads, course, 3).mean()
    assert found > 0.8 * kept.header["heldout_overlap"] > 2 * locret.SHARE


def test_the_loss_the_rate_and_the_overlap() -> None:
    predicted = torch.tensor([[[0.0, 2.0, 2.0]], [[1.0, 1.0, 1.0]]])
    labels = torch.tensor([[[0.5, 2.0, 5.0]], [[1.0, 1.0, 1.0]]])
    assert float(locret.loss(predicted, labels, 0.0)) == pytest.approx((0.125 + 2.5) / 6)
    assert float(locret.loss(labels, labels, 0.5)) == pytest.approx(0.5 * (1.5**2 + 3.0**2) / 2)
    course = Course(rate=1.0, warm_up=0.5)
    rates = [course.rate_at(step, 8) for step in range(8)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    ranks = torch.arange(20.0)[None, None]
    assert locret.overlap(ranks, ranks).tolist() == [[1.0]]
    assert locret.overlap(ranks, -ranks).tolist() == [[0.0]]
    assert locret.overlap(ranks, ranks.roll(1, -1)).tolist() == [[0.5]]


def test_pages_are_of_the_split_and_the_same_for_a_key(loaded: tuple[Any, Any]) -> None:
    one, same, other, held = (
        COURSE.page(*loaded, number, split).document
        for number, split in ((0, "train"), (0, "train"), (1, "train"), (0, "heldout"))
    )
    assert torch.equal(one, same)
    assert not any(torch.equal(one, x) for x in (other, held))
    assert 100 < one.shape[1] <= 150


def test_the_command_keeps_heads_that_the_recipe_finds(
    loaded: tuple[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    monkeypatch.setattr(locret.options, "load", lambda given: loaded)
    words = "locret --steps 3 --hidden 8 --lengths 130 140 --questions 1 --documents 2 --save".split()
    monkeypatch.setattr(sys, "argv", words)
    locret.main()
    said = json.loads(capsys.readouterr().out)
    path = tmp_path / "assets" / assets.fingerprint(loaded[0]) / "locret.safetensors"
    assert said["file"] == str(path) and 0 <= said["heldout_overlap"] <= 1
    kept = asset.read(path)
    assert (kept.kind, kept.header["activation"], kept.header["split"]) == ("retaining", "silu", "train")
    assert kept.header["model"] == assets.fingerprint(loaded[0]) and kept.header["steps"] == 3
    assert {x.dtype for x in kept.tensors.values()} == {torch.float16}
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
    cache = KVCache(loaded[0], "locret @ 20tok")
    drive.run(loaded[0], cache, drive.text(63).calls(63))
    assert len(cache.kept_positions(2)[0][1]) == 20
    keyvalise.detach(loaded[0])


def test_activations_of_models() -> None:
    named = {"llama": "silu", "gpt_neox": "gelu", "gpt2": "gelu_tanh", "gemma2": "gelu_tanh", "opt": "relu"}
    for family, activation in named.items():
        assert locret.activation_of(tiny(family)) == activation
