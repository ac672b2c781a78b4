"""Gates: a gate of 1 is the model itself, a gate of 0 its stream, and the model is afterwards as before."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from keyvalise import KVCache
from keyvalise.store.asset import Asset, write
from keyvalise.train import attention, duo, gates
from keyvalise.train.attention import served
from keyvalise.train.gates import Gates
from keyvalise.train.lessons import Lesson
from keyvalise.train.run import Run
from keyvalise.types.errors import AssetError, HostError, InputError, UnsupportedModel
from tests.support import drive
from tests.support.models import tiny

FAMILIES = ("llama", "qwen3", "gemma2", "gpt2", "gpt_oss", "phi3")
N = 63


def lesson(step: int = 0, n: int = N) -> Lesson:
    """n tokens without meaning, of which the last nine are labels."""
    ids = drive.text(n, seed=step).ids
    labels = torch.arange(n)[None] >= n - 9
    return Lesson(ids, labels, labels)


def fixed(model: Any, gate: float, sinks: int = 3, recent: int = 7) -> Gates:
    made = Gates.open(model, sinks, recent)
    with torch.no_grad():
        made.values.fill_(gate)
    return made


def logits(model: Any, made: Gates, ids: torch.Tensor) -> torch.Tensor:
    with served(model, made.both), torch.no_grad():
        return model(ids, use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_open_gates_are_the_model_itself(family: str) -> None:
    model, ids = tiny(family), lesson().ids
    with torch.no_grad():
        stock = model(ids, use_cache=False).logits
    assert torch.equal(logits(model, fixed(model, 1.0), ids), stock)
    loss, hidden = duo.distil(model, fixed(model, 1.0), lesson())
    assert loss.item() == 0.0
    assert torch.equal(hidden[0], hidden[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_within_sinks_and_recent_is_the_same_for_any_gate(family: str) -> None:
    model, ids = tiny(family), lesson().ids
    wide = fixed(model, 0.3, sinks=13, recent=50)
    with torch.no_grad():
        stock = model(ids, use_cache=False).logits
    assert torch.equal(logits(model, wide, ids), stock)
    assert duo.distil(model, wide, lesson())[0].item() == 0.0
    narrow = fixed(model, 0.3, sinks=13, recent=49)
    assert not torch.equal(logits(model, narrow, ids), stock)
    assert duo.distil(model, narrow, lesson())[0].item() > 0


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("block", [5, 16, 256])
def test_a_stream_sees_sinks_and_recents_alone(
    family: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the model's own attention under a whole mask, whatever the blocks."""
    monkeypatch.setattr(gates, "BLOCK", block)
    model, checked = tiny(family), []

    def attend(seam: attention.Seam) -> torch.Tensor:
        place = torch.arange(N)
        own = place[:, None]
        is_seen = (place <= own) & ((place < 3) | (own - place < 7))
        whole = seam.over(place, 0, N, is_seen)
        checked.append(float((gates.stream(seam, 3, 7) - whole).abs().max()))
        return seam.native()

    with served(model, attend), torch.no_grad():
        model(lesson().ids, use_cache=False)
    assert len(checked) == 3 and max(checked) < 1e-5


def test_without_sinks_a_stream_is_a_sliding_window() -> None:
    model, short = tiny("llama"), fixed(tiny("llama"), 0.0, sinks=0, recent=1)
    seen: list[torch.Tensor] = []

    def attend(seam: attention.Seam) -> torch.Tensor:
        out = gates.stream(seam, 0, 1)
        seen.append(out - seam.values.repeat_interleave(seam.group, 1).transpose(1, 2))
        return out

    with served(model, attend), torch.no_grad():
        model(lesson().ids, use_cache=False)
    assert all(float(apart.abs().max()) < 1e-6 for apart in seen)
    assert short.of(0) is not None


def test_the_teacher_does_not_see_the_student() -> None:
    model = tiny("llama")
    with torch.no_grad():
        stock = model.base_model(lesson().ids, use_cache=False).last_hidden_state
    hidden = duo.distil(model, fixed(model, 0.0), lesson())[1]
    assert torch.equal(hidden[0], stock[0]) and not torch.allclose(hidden[1], stock[0], atol=1e-3)


def test_the_full_branch_of_a_student_is_its_teachers() -> None:
    """With all but the last layer streaming, a gate of 1 in the last brings back the teacher's own output."""
    model = tiny("llama")
    made, outs = fixed(model, 0.0), []
    with torch.no_grad():
        made.values[-1] = 1

    def attend(seam: attention.Seam) -> torch.Tensor:
        outs.append(made.taught(seam))
        return outs[-1]

    with served(model, attend), torch.no_grad():
        model.base_model(lesson().ids.repeat(2, 1), use_cache=False)
    assert torch.equal(outs[-1][0], outs[-1][1]) and not torch.equal(outs[0][0], outs[0][1])


def test_gradients_reach_every_gate_and_nothing_else() -> None:
    model = copy.deepcopy(tiny("llama")).requires_grad_(True)
    made = fixed(model, 0.4)
    duo.distil(model, made, lesson())[0].backward()
    assert made.values.grad is not None and bool((made.values.grad != 0).all())
    assert all(weight.grad is None for weight in model.parameters())


def test_the_gradient_is_that_of_the_loss() -> None:
    model = copy.deepcopy(tiny("llama")).double()
    made = fixed(model, 0.4)
    duo.distil(model, made, lesson())[0].backward()
    step, sides = 1e-3, []
    for sign in (1, -1):
        moved = fixed(model, 0.4)
        with torch.no_grad():
            moved.values[1, 2] += sign * step
        sides.append(duo.distil(model, moved, lesson())[0].item())
    want = (sides[0] - sides[1]) / (2 * step)
    assert made.values.grad is not None
    assert made.values.grad[1, 2].item() == pytest.approx(want, rel=0.02)


def test_layers_that_slide_have_no_gates() -> None:
    made = fixed(tiny("gemma2"), 0.25)
    assert made.layers == (1, 2) and made.of(0) is None
    table = made.table()
    assert table.shape == (3, 4) and not table[0].any() and bool((table[1:] == 0.25).all())


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_the_model_is_afterwards_what_it_was(attn: str) -> None:
    model = copy.deepcopy(tiny("llama"))
    model.set_attn_implementation(attn)
    model.train()
    model.model.norm.eval()
    for i, weight in enumerate(model.parameters()):
        weight.requires_grad_(i % 2 == 0)
    flags = [weight.requires_grad for weight in model.parameters()]
    weights = [weight.clone() for weight in model.parameters()]
    modes = [module.training for module in model.modules()]
    duo.learn(model, lesson, duo.Course(sinks=3, recent=7), Run("duo", 2, {}))
    with pytest.raises(RuntimeError, match="stopped"), served(model, _stops):
        model(lesson().ids)
    assert model.config._attn_implementation == attn
    assert attention.NAME not in ALL_ATTENTION_FUNCTIONS
    assert attention.NAME not in ALL_MASK_ATTENTION_FUNCTIONS
    assert [weight.requires_grad for weight in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_serves_caches_of_ours_can_be_trained() -> None:
    model, ids = copy.deepcopy(tiny("llama")), lesson().ids
    KVCache(model, "full")
    with torch.no_grad():
        stock = model(ids, use_cache=False).logits
    assert model.config._attn_implementation == "keyvalise"
    assert torch.equal(logits(model, fixed(model, 1.0), ids), stock)
    assert not torch.allclose(logits(model, fixed(model, 0.0), ids), stock, atol=1e-2)
    assert model.config._attn_implementation == "keyvalise"


def _stops(seam: attention.Seam) -> torch.Tensor:
    raise RuntimeError("stopped")


def test_what_cannot_be_served_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="BloomForCausalLM computes attention without the attention"):
        duo.distil(tiny("bloom"), fixed(tiny("llama"), 1.0), lesson())
    with served(tiny("llama"), _stops), pytest.raises(HostError, match="being served already"):
        duo.distil(tiny("llama"), fixed(tiny("llama"), 1.0), lesson())
    with pytest.raises(InputError, match="sinks >= 0 and recent >= 1, got 4 and 0"):
        Gates.open(tiny("llama"), 4, 0)


def test_a_larger_penalty_closes_more_gates() -> None:
    model = tiny("llama")
    means = [
        duo.learn(model, lesson, duo.Course(penalty, 0.1, 3, 7), Run("duo", 20, {})).size.item()
        for penalty in (0.0, 0.3, 3.0)
    ]
    assert means[0] > means[1] + 0.05 > means[2] + 0.1


def test_gates_stay_within_0_and_1() -> None:
    steps = Run("duo", 15, {})
    table = duo.learn(tiny("llama"), lesson, duo.Course(50.0, 0.3, 3, 7), steps).table()
    assert float(table.min()) == 0.0 and float(table.max()) <= 1.0
    assert steps.trail[0] == {"loss": 0.0, "gate": 1.0}
    assert all(0 <= figures["gate"] <= 1 for figures in steps.trail)


class Interrupted(Exception):
    """Somebody pulled the plug."""


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Any) -> None:
    model, course = tiny("llama"), duo.Course(0.2, 0.1, 3, 7)
    whole = Run("duo", 13, {"seed": 5})
    want = duo.learn(model, lesson, course, whole).values
    path = tmp_path / "deep" / "duo.safetensors"

    def stopping(step: int) -> Lesson:
        if step == 8:
            raise Interrupted
        return lesson(step)

    with pytest.raises(Interrupted):
        duo.learn(model, stopping, course, Run("duo", 13, {"seed": 5}, path, every=3))
    seen: list[int] = []

    def noting(step: int) -> Lesson:
        seen.append(step)
        return lesson(step)

    again = Run("duo", 13, {"seed": 5}, path, every=3)
    got = duo.learn(model, noting, course, again).values
    assert seen == list(range(6, 13))
    assert torch.equal(got, want) and again.trail == whole.trail
    again.done()
    assert not path.exists() and not list(path.parent.iterdir())


def test_a_state_that_does_not_fit_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "duo.safetensors"
    model, course = tiny("llama"), duo.Course(0.2, 0.1, 3, 7)
    duo.learn(model, lesson, course, Run("duo", 3, {"lambda": 0.2, "lengths": (7, 9)}, path, every=1))
    duo.learn(model, lesson, course, Run("duo", 3, {"lambda": 0.2, "lengths": (7, 9)}, path, every=1))
    with pytest.raises(InputError, match=r"has lambda=0\.2, this one 0\.3; give the same settings, or begin"):
        duo.learn(model, lesson, course, Run("duo", 3, {"lambda": 0.3, "lengths": (7, 9)}, path))
    with pytest.raises(AssetError, match="not the state of an interrupted run of rlkv"):
        duo.learn(model, lesson, course, Run("rlkv", 3, {}, path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AssetError, match=r"damaged: .*; it was an interrupted run's, begin anew"):
        duo.learn(model, lesson, course, Run("duo", 3, {}, path))
    write(path, Asset("heads", {"heads": torch.ones(3, 4)}))
    with pytest.raises(AssetError, match="not the state"):
        duo.learn(model, lesson, course, Run("duo", 3, {}, path))
