"""Gates that rewards teach: what is sampled, how it is judged, and where the penalty stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise.train import rlkv, rollouts
from keyvalise.train.attention import served
from keyvalise.train.gates import Gates
from keyvalise.train.rlkv import Course
from keyvalise.train.rollouts import Group, Problem
from keyvalise.train.run import Run
from keyvalise.types.errors import InputError
from tests.support import drive
from tests.support.models import tiny

N = 41
SMALL = Course(
    penalty=0.05, rate=0.1, sinks=3, recent=7, prompts=3, parts=2, answers=3, most=4, threshold=0.0
)


def even(tokens: Sequence[int]) -> bool:
    """What a model without knowledge answers rightly half of the time."""
    return bool(tokens) and tokens[0] % 2 == 0


def problems(n: int = 5, is_right: rollouts.Judge = even) -> list[Problem]:
    return [Problem(drive.text(N + i, seed=i).ids, is_right) for i in range(n)]


def group(rewards: list[float], n: int = 4) -> Group:
    width = (len(rewards), n)
    return Group(
        problems(1)[0],
        torch.zeros(width, dtype=torch.long),
        torch.ones(width, dtype=torch.bool),
        torch.zeros(width),
        torch.tensor(rewards),
    )


def half_open(model: Any) -> Gates:
    gates = Gates.open(model, 3, 7)
    with torch.no_grad():
        gates.values.copy_(torch.linspace(0, 1, gates.values.numel()).view_as(gates.values))
    return gates


def test_the_penalty_switches_off_when_the_reward_collapses() -> None:
    assert rlkv.pressure(1.0, 0.5) == pytest.approx(math.e - 1)
    assert rlkv.pressure(0.51, 0.5) == pytest.approx(math.exp(0.51) - 1)
    assert rlkv.pressure(0.5, 0.5) == rlkv.pressure(0.0, 0.5) == 0.0
    model, never = tiny("llama"), problems(3, lambda tokens: False)
    always = problems(3, lambda tokens: True)
    steps = Run("rlkv", 3, {})
    assert bool((rlkv.learn(model, never, SMALL, steps).values == 1).all())
    assert [figures["reward"] for figures in steps.trail] == [0.0] * 3
    # All answers right: no advantage, so that the penalty alone moves the gates, all alike.
    pressed = rlkv.learn(model, always, SMALL, Run("rlkv", 3, {})).table()
    assert float(pressed.max()) < 0.75 and float(pressed.max() - pressed.min()) < 1e-6


def test_without_penalty_and_advantage_nothing_moves() -> None:
    course = Course(penalty=0.0, rate=0.1, sinks=3, recent=7, prompts=3, parts=1, answers=2, most=3)
    made = rlkv.learn(tiny("llama"), problems(3, lambda tokens: True), course, Run("rlkv", 2, {}))
    assert bool((made.values == 1).all())


def test_advantages_are_centred_and_scaled() -> None:
    groups = [group([1.0, 0.0, 0.0]), group([1.0, 1.0, 1.0]), group([1.0, 1.0, 0.0])]
    found = rlkv.advantages(groups)
    assert all(abs(float(one.sum())) < 1e-6 for one in found)
    assert not found[1].any()
    assert float(torch.cat(found).square().mean()) == pytest.approx(1, rel=1e-4)
    assert float(found[0][0]) == pytest.approx(2 * float(found[2][0]), rel=1e-4)
    assert not torch.cat(rlkv.advantages([group([1.0, 1.0]), group([0.0, 0.0])])).any()


def test_a_gain_is_clipped_where_it_would_go_on_growing() -> None:
    advantage = torch.tensor([2.0, -1.0])
    for ratio, want in ((1.0, (2.0, -1.0)), (1.7, (2.8, -1.7)), (0.3, (0.6, -0.6))):
        now = torch.full((2, 4), math.log(ratio), requires_grad=True)
        total = rlkv.gain(now, group([1.0, 0.0]), advantage, 0.4)
        assert total.item() == pytest.approx(4 * sum(want), abs=1e-5)
        (slope,) = torch.autograd.grad(total, now)
        assert (slope[0] != 0).all() == (ratio <= 1.4) and (slope[1] != 0).all() == (ratio >= 0.6)


def test_rewards_teach_which_gates_must_stay_open() -> None:
    """Right is what the full model likes best: the gates that matter for it stay above the others."""
    model = tiny("llama")
    likes = {}
    for i, problem in enumerate(problems(4)):
        likes[i] = rollouts.sample(model, problem, temperature=0.0, most=1).tokens[0, 0].item()
    chosen = [
        Problem(problem.prompt, lambda tokens, own=likes[i]: bool(tokens) and tokens[0] == own)
        for i, problem in enumerate(problems(4))
    ]
    course = Course(
        penalty=0.0, rate=0.1, sinks=3, recent=7, prompts=4, parts=1, answers=6, most=1, threshold=0.0
    )
    torch.manual_seed(0)
    steps = Run("rlkv", 8, {})
    made = rlkv.learn(model, chosen, course, steps).table()
    assert any(0 < figures["reward"] < 1 for figures in steps.trail)
    assert float(made.min()) < 1 and float(made.max() - made.min()) > 0.05


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_scored_again_an_answer_is_as_likely_as_when_it_was_sampled(family: str) -> None:
    model, gates = tiny(family), half_open(tiny(family))
    with served(model, gates.both), torch.no_grad():
        made = rollouts.sample(model, problems(1)[0], 5, most=9, seed="a")
        again = rollouts.chances_of(model, made)
    assert made.tokens.shape == (5, 9) and len({tuple(row) for row in made.tokens.tolist()}) == 5
    assert torch.allclose(again, made.chances, atol=1e-4)
    plain = rollouts.chances_of(model, made)
    assert not torch.allclose(plain, made.chances, atol=1e-2)


def test_draws_follow_their_seed_alone() -> None:
    model, problem = tiny("llama"), problems(1)[0]
    first, torch_state = rollouts.sample(model, problem, 3, most=5, seed="x"), torch.get_rng_state()
    same, other = (rollouts.sample(model, problem, 3, most=5, seed=seed) for seed in "xy")
    assert torch.equal(first.tokens, same.tokens) and not torch.equal(first.tokens, other.tokens)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_an_answer_ends_at_the_models_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, problem, said = tiny("llama"), problems(1)[0], []
    free = rollouts.sample(model, problem, temperature=0.0, most=6).tokens[0].tolist()
    assert free == model.generate(problem.prompt, max_new_tokens=6, do_sample=False)[0, N:].tolist()
    end = free[3]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [end])
    judged = Problem(problem.prompt, lambda tokens: said.append(list(tokens)) is None)
    made = rollouts.sample(model, judged, temperature=0.0, most=6)
    stop = free.index(end)
    assert said == [free[:stop]] and made.mask.sum() == stop + 1 == made.tokens.shape[1]
    assert made.only(0).tokens.tolist() == [free[: stop + 1]]


def test_a_judge_minds_words_alone() -> None:
    class Tokenizer:
        def decode(self, tokens: list[int], **options: Any) -> str:
            return bytes(tokens).decode()

    judge = rollouts.judge(Tokenizer(), "47 12")
    said = {"47 12": True, " 47  12.\n": True, "47 12\nand more": True, "47 13": False, "47 12 x": False}
    assert {text: judge(text.encode()) for text in said} == said
    assert not judge(b"") and rollouts.judge(Tokenizer(), "Mira Tolan")(b"mira tolan")


def test_the_surrogate_is_nothing_for_open_gates_and_learns() -> None:
    model = tiny("llama")
    solved = [rollouts.sample(model, one, most=4, seed="s").only(0) for one in problems(4)]
    assert rlkv.apart(model, Gates.open(model, 3, 7), solved[0]).item() == 0.0
    gates = half_open(model)
    loss = rlkv.apart(model, gates, solved[0])
    loss.backward()
    assert loss.item() > 0 and gates.values.grad is not None and bool(gates.values.grad.any())
    means = []
    for penalty in (0.01, 3.0):
        course = Course(penalty=penalty, rate=0.1, sinks=3, recent=7, prompts=3)
        means.append(rlkv.imitate(model, solved, course, Run("s", 12, {})).size.item())
    assert means[0] > means[1] + 0.05


@pytest.mark.parametrize("kind", ["learn", "imitate"])
def test_an_interrupted_run_ends_as_one_that_was_not(
    kind: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own = tiny("llama"), problems(4)
    solved = [rollouts.sample(model, one, most=4, seed="s").only(0) for one in own]

    def go(run: Run) -> torch.Tensor:
        made = (
            rlkv.learn(model, own, SMALL, run) if kind == "learn" else rlkv.imitate(model, solved, SMALL, run)
        )
        return made.values

    whole, path = Run(kind, 5, {}), tmp_path / "state"
    want = go(whole)
    with monkeypatch.context() as patch:
        left = [4]

        def clamp(gates: Gates) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            with torch.no_grad():
                gates.values.clamp_(0, 1)

        patch.setattr(Gates, "clamp_", clamp)
        with pytest.raises(KeyboardInterrupt):
            go(Run(kind, 5, {}, path, every=1))
    again = Run(kind, 5, {}, path, every=1)
    assert torch.equal(go(again), want) and again.trail == whole.trail


def test_only_what_the_model_solves_is_asked() -> None:
    model, tokenizer = keyvalise.reference()
    made = rollouts.problems(model, tokenizer, ("needle", "override"), (128, 160), seed=3)
    solved = rlkv.solve(model, made, Course(most=10), 6)
    assert len(solved) == 6
    for one in solved:
        assert one.rewards.tolist() == [1.0] and one.tokens[0, -1] == model.generation_config.eos_token_id
        assert 100 < one.problem.document < one.problem.prompt.shape[1] < 200
    # Documents are those of the training split and differ from one another.
    assert len({tuple(one.problem.prompt[0, :40].tolist()) for one in solved}) == 6


def test_a_model_that_solves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="answers none of 8 questions, so its rewards can teach nothing"):
        rlkv.solve(tiny("llama"), problems(9, lambda tokens: False), SMALL, 2)
