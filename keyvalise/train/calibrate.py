"""Measure on generated text which layers need most room: one profile of layers for each of two systems.

    python -m keyvalise.train.calibrate eviction_error --model reference --save     for compresskv
    python -m keyvalise.train.calibrate prefix --share 0.5 --save                   for prefixkv

eviction_error   relative error of a layer's output under a small cache, summed over answers, 1 in all layers;
                 every task is one data set, all weigh the same. Needs the profile "semantic_retrieval"
prefix           share of its tokens that a layer drops, averaged over prompts

A step is one prompt of the training split; an interrupted measurement goes on where it was.

Differs          eviction_error: generated tasks instead of LongBench, so no benchmark is seen. The set is
                 chosen before the question is read, as this library compresses; with --asked behind it, as in
                 the paper, which then spares the layers that retrieve
Paper            Lin et al. 2025, arXiv 2508.02401; Wang et al. 2024, arXiv 2412.03409
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.host import model as models
from keyvalise.store.asset import Asset
from keyvalise.train import errors, options, rollouts, shares
from keyvalise.train.errors import Votes
from keyvalise.train.rlkv import TASKS
from keyvalise.train.rollouts import Problem
from keyvalise.train.run import Run
from keyvalise.types.errors import InputError
from keyvalise.types.geometry import Geometry

ERROR, PREFIX = "eviction_error", "prefix"
OTHERS = {ERROR: ("share",), PREFIX: ("ranks", "budget", "window", "asked")}
"""Options that say nothing about a profile."""


def ranks(model: Any, name: str) -> dict[int, Tensor]:
    """layer → scores [Hq] of the heads that may vote, of every handled layer.

    Raises   AssetError where the profile is missing, damaged, or another model's
    """
    layers = models.host_layers(model)
    handled, geometry = models.handled(layers), Geometry.of(models.text_config(model))
    found = assets.of(((name, "heads"),), model, geometry, handled, len(layers))[name]["heads"]
    wide = found.repeat_interleave(geometry.n_query_heads // found.shape[1], 1)
    return dict(zip(handled, wide, strict=True))


def eviction_errors(
    model: Any, problems: Sequence[Problem], voting: Mapping[int, Tensor], votes: Votes, steps: Run
) -> Tensor:
    """Shares of error [L] over all layers, Σ = 1; one step for each problem."""
    names = sorted({problem.task for problem in problems})
    sums = torch.zeros(len(names), len(models.host_layers(model)), dtype=torch.float64)

    def step(number: int) -> dict[str, float]:
        problem = problems[number]
        found = errors.of(model, problem, voting, votes)
        sums[names.index(problem.task)] += found
        return {"error": float(found.sum())}

    steps.go(step, {"sums": sums})
    return errors.averaged([one for one in sums if bool(one.any())])


def prefix_shares(model: Any, prompts: Sequence[Tensor], share: float, steps: Run) -> Tensor:
    """Mean dropped shares [L] over all prompts, those of layers that are not handled 0."""
    handled = list(models.handled(models.host_layers(model)))
    sums = torch.zeros(len(models.host_layers(model)), dtype=torch.float64)

    def step(number: int) -> dict[str, float]:
        found = shares.dropped(shares.mass(model, prompts[number]), share)
        sums[handled] += found
        return {"spread": float(found.max() - found.min())}

    steps.go(step, {"sums": sums})
    return sums / len(prompts)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = options.parser("calibrate", __doc__, steps=200, lengths=(1024, 4096))
    parse.add_argument("profile", choices=(ERROR, PREFIX))
    parse.add_argument("--ranks", default="semantic_retrieval", help="profile of the heads that vote")
    parse.add_argument("--budget", type=int, default=Votes.budget, help="tokens of the small cache")
    parse.add_argument("--window", type=int, default=Votes.window, help="newest of them, which vote")
    parse.add_argument("--asked", action="store_true", help="choose behind the question, as the paper")
    parse.add_argument("--share", type=float, default=0.5, help="of its tokens that a prompt drops")
    return parse


def main() -> None:
    """Measure and keep."""
    with options.said():
        given = parser().parse_args()
        if not 0 <= given.share <= 1 or not 1 <= given.window <= given.budget:
            raise InputError("--share lies between 0 and 1, and --window between 1 and --budget")
        model, tokenizer = options.load(given)
        made = rollouts.problems(model, tokenizer, TASKS, tuple(given.lengths), seed=given.seed)
        problems = list(islice(made, given.steps))
        name = given.profile
        for other in ("profile", *OTHERS[name]):
            delattr(given, other)
        steps = options.steps(given, name, model, tasks=TASKS)
        if name == ERROR:
            votes = Votes(given.budget, given.window, asked=given.asked)
            found = eviction_errors(model, problems, ranks(model, given.ranks), votes, steps)
        else:
            prompts = [problem.prompt[:, : problem.document] for problem in problems]
            found = prefix_shares(model, prompts, given.share, steps)
        header = {"granularity": "layer", "split": "train", **steps.settings}
        kind = {ERROR: "layers", PREFIX: "dropped"}[name]
        options.keep(given, model, Asset(kind, {"layers": found.float()}, header), steps)


if __name__ == "__main__":
    main()
