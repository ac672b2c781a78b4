"""Learn one gate per kv head from the rewards of the model's own answers: what reasoning must look back for.

    python -m keyvalise.train.rlkv --steps 120 --lengths 128 256 --sinks 8 --recent 32 --save
    python -m keyvalise.train.rlkv --surrogate --steps 400 …

Formula    out = a·Full(h) + (1 − a)·Stream(h), both from the same states, while answers are sampled and while
           gates learn.  Per answer r ∈ {0, 1} (exact match), A = (r − mean of its group) / deviation over the
           step;  loss = −mean over tokens of min(ρ·A, clip(ρ, 1 ± c)·A) + λ·mean|a|·f(r̄),  ρ = p_now /
           p_sampled,  f(r̄) = exp(r̄) − 1 if r̄ > τ else 0,  r̄ the mean reward of the minibatch
           surrogate: mean over tokens of KL(model ‖ gated model) on the model's own right answers + λ·mean|a|
Units      sinks, recent, lengths, most: tokens;  prompts are those that the model answers rightly by itself
Reduces to the model itself where all gates are 1
Differs    advantages are centred in their group and divided by the step's deviation; no decoupled weights, as
           the same arithmetic samples and learns; groups without advantage are not computed; problems are
           generated, where the paper has mathematics. The surrogate is ours: cheap, labelled, its own asset
Paper      Du et al. 2025, arXiv 2510.08525             Confidence  official code
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from keyvalise.train import options, rollouts, run
from keyvalise.train.attention import served
from keyvalise.train.gates import Gates
from keyvalise.train.rollouts import Group, Problem
from keyvalise.train.run import Run
from keyvalise.types.errors import InputError

NAME, SURROGATE = "rlkv", "rlkv_surrogate"
TASKS = (
    "needle",
    "multikey",
    "multivalue",
    "multiquery",
    "records",
    "copy",
    "override",
    "variables",
    "frequent",
    "fewshot",
)
AS_DUO = {"penalty": 0.05, "rate": 0.02}
"""What the surrogate does by default: it is a distillation."""


@dataclass(frozen=True)
class Course:
    """penalty     λ;  rate: the optimiser's;  sinks, recent: what a stream sees;  clip: of the ratio
    threshold   τ, the mean reward below which nothing is penalised
    prompts     of a step, shared out over `parts` minibatches;  answers: to each;  most: tokens of an answer
    """

    penalty: float = 1e-3
    rate: float = 1e-2
    sinks: int = 128
    recent: int = 256
    threshold: float = 0.5
    clip: float = 0.4
    prompts: int = 32
    parts: int = 4
    answers: int = 4
    most: int = 32
    seed: int = 0


def pressure(reward: float, threshold: float) -> float:
    """f(r): how hard the penalty presses; nothing where the reward has fallen to the threshold."""
    return math.exp(reward) - 1 if reward > threshold else 0.0


def advantages(groups: Sequence[Group]) -> list[Tensor]:
    """[n] per group: rewards around their group's mean, over the deviation of all; 0 where all are alike."""
    centred = [group.rewards - group.rewards.mean() for group in groups]
    spread = torch.cat(centred).square().mean().sqrt()
    return [one / (spread + 1e-6) for one in centred]


def gain(now: Tensor, group: Group, advantage: Tensor, clip: float) -> Tensor:
    """Clipped gain summed over the tokens of a group; now, the chances of today [n, A]."""
    ratio = (now - group.chances).exp()
    row = advantage[:, None]
    best = torch.minimum(ratio * row, ratio.clamp(1 - clip, 1 + clip) * row)
    return best[group.mask].sum()


def learn(model: Any, problems: Sequence[Problem], course: Course, steps: Run) -> Gates:
    """The gates after all steps; `steps.trail` tells reward and mean gate of each."""
    gates = Gates.open(model, course.sinks, course.recent)
    optimiser, moments = run.adam(gates.values, lr=course.rate, weight_decay=0.017)

    def step(number: int) -> dict[str, float]:
        chosen = random.Random(f"prompts {course.seed} {number}").sample(
            problems, min(course.prompts, len(problems))
        )
        gates.clamp_()
        with served(model, gates.both):
            groups = [
                rollouts.sample(
                    model, one, course.answers, most=course.most, seed=f"{course.seed} {number} {i}"
                )
                for i, one in enumerate(chosen)
            ]
        pairs = list(zip(groups, advantages(groups), strict=True))
        for part in range(course.parts):
            _update(model, gates, optimiser, pairs[part :: course.parts], course)
        reward = torch.cat([group.rewards for group in groups]).mean()
        return {"reward": reward.item(), "gate": gates.size.item()}

    steps.go(step, {"gates": gates.values, **moments})
    gates.clamp_()
    return gates


def _update(
    model: Any,
    gates: Gates,
    optimiser: torch.optim.Optimizer,
    pairs: Sequence[tuple[Group, Tensor]],
    course: Course,
) -> None:
    """One step of the optimiser on one minibatch."""
    if not pairs:
        return
    gates.clamp_()
    optimiser.zero_grad()
    n_tokens = sum(int(group.mask.sum()) for group, _ in pairs)
    with served(model, gates.both):
        for group, advantage in pairs:
            if bool(advantage.any()):
                now = rollouts.chances_of(model, group)
                (-gain(now, group, advantage, course.clip) / n_tokens).backward()
    reward = float(torch.cat([group.rewards for group, _ in pairs]).mean())
    if pressed := course.penalty * pressure(reward, course.threshold):
        (pressed * gates.size).backward()
    optimiser.step()


def apart(model: Any, gates: Gates, group: Group) -> Tensor:
    """KL(model ‖ gated model) summed over the tokens of right answers."""
    with torch.no_grad():
        own = rollouts.logits_of(model, group).log_softmax(-1)
    with served(model, gates.both):
        gated = rollouts.logits_of(model, group).log_softmax(-1)
    return (own.exp() * (own - gated)).sum(-1)[group.mask].sum()


def imitate(model: Any, solved: Sequence[Group], course: Course, steps: Run) -> Gates:
    """The surrogate's gates; `steps.trail` tells the divergence and mean gate of every step."""
    gates = Gates.open(model, course.sinks, course.recent)
    optimiser, moments = run.adam(gates.values, lr=course.rate, weight_decay=0.0)

    def step(number: int) -> dict[str, float]:
        gates.clamp_()
        optimiser.param_groups[0]["lr"] = course.rate * run.slope(number, steps.n_steps)
        optimiser.zero_grad()
        drawn = random.Random(f"own {course.seed} {number}")
        chosen = drawn.sample(solved, min(course.prompts, len(solved)))
        n_tokens, total = sum(int(group.mask.sum()) for group in chosen), 0.0
        for group in chosen:
            loss = apart(model, gates, group) / n_tokens
            loss.backward()
            total += loss.item()
        size = gates.size
        (course.penalty * size).backward()
        optimiser.step()
        return {"loss": total, "gate": size.item()}

    steps.go(step, {"gates": gates.values, **moments})
    gates.clamp_()
    return gates


def solve(model: Any, problems: Iterable[Problem], course: Course, n: int) -> list[Group]:
    """A right answer of the model's own to each of at most n problems, of the first 4·n.

    Raises   InputError where it answers none: rewards could teach nothing
    """
    solved: list[Group] = []
    tried = 0
    for problem in islice(problems, 4 * n):
        if len(solved) == n:
            break
        tried += 1
        group = rollouts.sample(model, problem, most=course.most, seed=f"own {course.seed} {tried}")
        if bool(group.rewards[0]):
            solved.append(group.only(0))
    if not solved:
        raise InputError(f"the model answers none of {tried} questions, so its rewards can teach nothing")
    return solved


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = options.parser(NAME, __doc__, steps=185, lengths=(512, 4096))
    options.add_gates(parse, Course())
    parse.add_argument("--surrogate", action="store_true", help="distil on own right answers instead")
    parse.add_argument("--problems", type=int, default=1000, help="prompts to choose from")
    parse.add_argument("--prompts", type=int, default=Course.prompts, help="prompts of a step")
    parse.add_argument("--parts", type=int, default=Course.parts, help="minibatches of a step")
    parse.add_argument("--answers", type=int, default=Course.answers, help="answers to a prompt")
    parse.add_argument("--most", type=int, default=Course.most, help="tokens of an answer")
    parse.add_argument("--threshold", type=float, default=Course.threshold, help="τ")
    parse.add_argument("--clip", type=float, default=Course.clip)
    return parse


def main() -> None:
    """Learn and keep."""
    with options.said():
        parse = parser()
        given = parse.parse_args()
        if given.surrogate:
            parse.set_defaults(**AS_DUO)
            given = parse.parse_args()
        model, tokenizer = options.load(given)
        fields = {name: getattr(given, name) for name in Course.__dataclass_fields__}
        course = Course(**fields)
        made = rollouts.problems(model, tokenizer, TASKS, tuple(given.lengths), seed=given.seed)
        solved = solve(model, made, course, given.problems)
        name = SURROGATE if given.surrogate else NAME
        steps = options.steps(given, name, model, tasks=TASKS)
        if given.surrogate:
            gates = imitate(model, solved, course, steps)
        else:
            gates = learn(model, [group.problem for group in solved], course, steps)
        options.keep_gates(given, model, gates.table(), steps, {"solved": len(solved)})


if __name__ == "__main__":
    main()
