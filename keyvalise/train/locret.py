"""Train retaining heads for a model: small networks that foresee how much an answer will look at a token.

    python -m keyvalise.train.locret --steps 1000 --hidden 256 --save
    python -m keyvalise.train.locret --model FOLDER --steps 3000 --hidden 1024 --out FOLDER

Formula    smooth L1 between fc2·act(fc1·[q, k, v]) and the largest logit that the answers had with a token,
           + smooth·Σ_layers mean (s_t − s_{t−1})²;  AdamW, betas 0.9 and 0.95, gradients clipped by value
Units      lengths: tokens of a document, one of which makes a step;  warm-up: share of the steps
Differs    documents and answers are generated, of the training split; a question comes behind the document,
           so that its last query, which gives the answer's first token, is one of the answer's queries. After
           the warm-up the rate falls to nothing. Heads are stored in 16 bits
Paper      Huang et al. 2024, arXiv 2410.01805          Confidence  official code

The model is only read. A run that was broken off goes on where it was, and ends as it would have ended.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.host import assets
from keyvalise.host.model import text_config
from keyvalise.host.retaining import KIND
from keyvalise.ops import retain
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train import options, run
from keyvalise.train.labels import Lesson, Page, Reader, borrowed, draw
from keyvalise.train.run import Run

NAME = "locret"
SHARE = 0.1
"""Of the tokens of a document: the best of a ranking."""

ALIASES = {
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""Activations that models name otherwise."""


@dataclass(frozen=True)
class Course:
    """tokens     shortest and longest document;  questions: asked of each
    asks       whether queries of the questions count too
    smooth     weight of differences between neighbours;  clip: largest gradient
    """

    hidden: int = 1024
    tokens: tuple[int, int] = (512, 1024)
    questions: int = 4
    asks: bool = False
    activation: str = "silu"
    rate: float = 5e-4
    warm_up: float = 2 / 3
    smooth: float = 0.0025
    clip: float = 0.5
    seed: int = 0

    def rate_at(self, step: int, n_steps: int) -> float:
        """A linear rise over the warm-up, then a linear fall to nothing."""
        rise = max(1, round(n_steps * self.warm_up))
        return self.rate * min(1.0, (step + 1) / rise, (n_steps - step) / max(1, n_steps - rise))

    def page(self, model: Any, tokenizer: Any, number: int, split: str) -> Page:
        """The document of a step, or a held-out one."""
        key = f"{self.seed} {number}"
        return draw(model, tokenizer, key=key, tokens=self.tokens, n=self.questions, split=split)


@dataclass
class Heads:
    """The heads of all layers: fc1 [L, E, I], fc2 [L, H, E] float32."""

    fc1: Tensor
    fc2: Tensor
    activation: str

    @staticmethod
    def fresh(course: Course, shape: tuple[int, int, int], device: Any) -> Heads:
        """Untrained ones, the same for the same seed; `shape` is (L, I, H)."""
        n_layers, n_inputs, n_heads = shape
        noise = torch.Generator().manual_seed(course.seed)
        sizes = ((n_layers, course.hidden, n_inputs), (n_layers, n_heads, course.hidden))
        drawn = [(2 * torch.rand(size, generator=noise) - 1) / size[-1] ** 0.5 for size in sizes]
        fc1, fc2 = (weight.to(device).requires_grad_() for weight in drawn)
        return Heads(fc1, fc2, course.activation)

    def predict(self, inputs: Tensor) -> Tensor:
        """[L, H, N] for inputs [L, N, I]."""
        return retain.predict(inputs, self.fc1, self.fc2, self.activation)

    @property
    def weights(self) -> dict[str, Tensor]:
        return {"fc1": self.fc1, "fc2": self.fc2}


def loss(predicted: Tensor, labels: Tensor, smooth: float) -> Tensor:
    """Smooth L1 over all tokens, layers and heads, and how much neighbours differ, summed over layers.

    Shapes   both [L, H, N]
    """
    apart = (predicted[..., 1:] - predicted[..., :-1]).square().mean((1, 2)).sum()
    return functional.smooth_l1_loss(predicted, labels) + smooth * apart


def overlap(predicted: Tensor, labels: Tensor, share: float = SHARE) -> Tensor:
    """How many of the best tokens of two rankings are the same, as a share of them: [L, H] of [L, H, N]."""
    n = max(1, int(share * labels.shape[-1]))
    best = [torch.zeros_like(x).scatter_(-1, x.topk(n, -1).indices, 1.0) for x in (predicted, labels)]
    return (best[0] * best[1]).sum(-1) / n


def learn(model: Any, tokenizer: Any, course: Course, steps: Run) -> Heads:
    """The heads after all steps; `steps.trail` tells the loss and the overlap of each.

    Raises   UnsupportedModel where the model's queries cannot be seen; InputError, AssetError for a state
             that is another run's or damaged
    """
    reader = Reader(model, course.asks)
    heads = Heads.fresh(course, reader.shape, model.device)
    tuned = {name: run.adam(x, betas=(0.9, 0.95), weight_decay=0.0) for name, x in heads.weights.items()}

    def step(number: int) -> dict[str, float]:
        lesson = reader.read(course.page(model, tokenizer, number, "train"))
        with torch.enable_grad():
            predicted = heads.predict(lesson.inputs)
            error = loss(predicted, lesson.labels, course.smooth)
            for optimiser, _ in tuned.values():
                optimiser.zero_grad(set_to_none=True)
            error.backward()
        torch.nn.utils.clip_grad_value_(heads.weights.values(), course.clip)
        for optimiser, _ in tuned.values():
            optimiser.param_groups[0]["lr"] = course.rate_at(number, steps.n_steps)
            optimiser.step()
        agreement = overlap(predicted.detach(), lesson.labels).mean()
        return {"loss": error.item(), "overlap": agreement.item()}

    moments = {f"{name}.{key}": x for name, (_, state) in tuned.items() for key, x in state.items()}
    with borrowed(model):
        steps.go(step, {**heads.weights, **moments})
    return heads


def measure(model: Any, tokenizer: Any, heads: Heads, course: Course, n: int = 24) -> Tensor:
    """Mean overlap [L, H] of predictions and labels on n held-out documents."""
    reader = Reader(model, course.asks)

    def of(lesson: Lesson) -> Tensor:
        return overlap(heads.predict(lesson.inputs), lesson.labels)

    with borrowed(model):
        pages = (course.page(model, tokenizer, i, "heldout") for i in range(n))
        return torch.stack([of(reader.read(page)) for page in pages]).mean(0)


def product(model: Any, heads: Heads, facts: Mapping[str, Any]) -> Asset:
    """The trained heads in 16 bits, with where they come from."""
    header = {
        "model": assets.fingerprint(model),
        "activation": heads.activation,
        "labels": "max over answer queries and the group's query heads of q·k·scale, before the softmax",
        "split": "train",
        **facts,
    }
    return Asset(KIND, {name: weight.detach().half() for name, weight in heads.weights.items()}, header)


def activation_of(model: Any) -> str:
    """The activation of the model's own networks, where heads can have it; else silu."""
    config = text_config(model)
    names = ("hidden_act", "hidden_activation", "activation_function")
    said = next((found for name in names if isinstance(found := getattr(config, name, None), str)), "")
    found = ALIASES.get(said, said)
    return found if found in retain.ACTIVATIONS else "silu"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = Course()
    parse = options.parser(NAME, __doc__, steps=3000, lengths=own.tokens)
    parse.add_argument("--hidden", type=int, default=own.hidden, help="inner numbers of a head")
    parse.add_argument("--questions", type=int, default=own.questions, help="asked of every document")
    parse.add_argument("--asks", action="store_true", help="queries of the questions count as well")
    parse.add_argument("--activation", choices=tuple(retain.ACTIVATIONS), help="default: the model's own")
    parse.add_argument("--rate", type=float, default=own.rate, help="learning rate at its height")
    parse.add_argument("--warm-up", type=float, default=own.warm_up, help="share of the steps")
    parse.add_argument("--documents", type=int, default=24, help="held out, for the overlap")
    return parse


def main() -> None:
    """Train, measure, keep."""
    with options.said():
        given = parser().parse_args()
        model, tokenizer = options.load(given)
        known = {name: value for name, value in vars(given).items() if name in Course.__dataclass_fields__}
        activation = given.activation or activation_of(model)
        course = Course(**{**known, "tokens": tuple(given.lengths), "activation": activation})
        steps = options.steps(given, NAME, model, activation=activation)
        heads = learn(model, tokenizer, course, steps)
        found = measure(model, tokenizer, heads, course, given.documents)
        facts = {**steps.settings, "heldout_overlap": round(float(found.mean()), 4)}
        keep(given, product(model, heads, facts), steps)


def keep(given: argparse.Namespace, made: Asset, done: Run) -> None:
    """Write the heads whole or not at all where that is asked for, and tell what they are."""
    place: Path | None = None
    if given.out or given.save:
        folder = Path(given.out) if given.out else assets.home() / str(made.header["model"])
        place = folder / f"{NAME}.safetensors"
        asset.write(place, made)
        done.done()
    print(json.dumps({"name": NAME, "file": None if place is None else str(place), **made.header}))


if __name__ == "__main__":
    main()
