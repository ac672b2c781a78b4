"""Tables of commvq: steps that never err more, trainings that go on where they were."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.host.purpose import Purpose
from keyvalise.ops import commuting, signs
from keyvalise.recipe.words import make
from keyvalise.store import asset
from keyvalise.train import commuting as training
from keyvalise.train import course, signed, turning
from keyvalise.train.job import Job
from keyvalise.train.readings import Reader
from keyvalise.train.texts import Texts
from tests.support import drive
from tests.support.models import prompts, tiny
from tests.unit.builders import random


def rows(n: int = 700) -> Tensor:
    """Vectors of 12 numbers, of which 5 say nearly all."""
    return random(n, 5, seed=1) @ random(5, 12, seed=2) + 0.1 * random(n, 12, seed=3)


def weighted(soft_of: Tensor, x: Tensor, table: Tensor, heat: float) -> float:
    """Σ p·‖x − c‖² of a table under the weights that another table gives."""
    apart = commuting.distances(x, soft_of).clamp(min=0)
    p = (-apart.sqrt() / heat).flatten(1).softmax(-1)
    return float((p * commuting.distances(x, table).flatten(1)).sum())


@pytest.mark.parametrize("heat", [1.0, 0.1, 0.01])
def test_a_maximisation_never_errs_more(heat: float) -> None:
    x = rows(130)
    table = turning.start(x, 8, 0)
    for _ in range(4):
        better = turning.expect(x, table, heat).best()
        assert weighted(table, x, better, heat) <= weighted(table, x, table, heat) * (1 + 1e-5)
        table = better


def test_cold_is_the_nearest_alone() -> None:
    x = rows(130)
    table = turning.start(x, 8, 0)
    soft, hard = turning.expect(x, table, 1e-6), turning.expect(x, table, 0.0)
    for a, b in ((soft.weights, hard.weights), (soft.real, hard.real), (soft.turned, hard.turned)):
        assert torch.allclose(a, b, atol=1e-3)
    assert soft.error == pytest.approx(hard.error, rel=1e-4)


def test_equations_are_of_the_published_form() -> None:
    """(TᵀWT)·θ = TᵀW·m over the real parameters of one pair; TᵀT is diagonal."""
    n, x = 4, random(63, 2, seed=4)
    soft = turning.expect(x, random(n, 2, seed=5), 0.3)
    design = torch.zeros(2 * n * n, 2 * n)
    for a in range(n):
        for b in range(n):
            real = 2 * (n * a + b)
            design[real, 2 * a], design[real, 2 * b + 1] = 1, -1
            design[real + 1, 2 * b], design[real + 1, 2 * a + 1] = design[real + 1, 2 * b] + 1, 1
    square = design.T @ design
    assert torch.equal(square, square.diagonal().diag())
    apart = commuting.distances(x, random(n, 2, seed=5)).clamp(min=0)
    p = (-apart.sqrt() / 0.3).flatten(1).softmax(-1)
    mass, sums = p.sum(0).repeat_interleave(2), (p.T @ x).flatten()
    theta = torch.linalg.solve(design.T @ (mass[:, None] * design), design.T @ sums)
    assert torch.allclose(soft.best(), theta.view(n, 2), atol=1e-4)


def test_tables_that_commute_err_a_little_more_than_any() -> None:
    x = rows()
    table = turning.start(x, 4, 0)
    for i in range(30):
        table = turning.expect(x, table, 0.0 if i > 10 else 0.3).best()
    mine = float((x - turning.near(x, table)).square().sum())
    words = commuting.word(torch.arange(16), table)
    for _ in range(30):
        own = torch.cdist(x, words).argmin(1)
        words = torch.stack([x[own == i].mean(0) if bool((own == i).any()) else words[i] for i in range(16)])
    free = float((x - words[torch.cdist(x, words).argmin(1)]).square().sum())
    assert free < mine < 0.9 * float(x.square().sum())


def test_a_gain_keeps_the_length() -> None:
    x = rows()
    table = turning.start(x, 8, 0)
    for _ in range(12):
        table = turning.expect(x, table, 0.0).best()
    near = turning.near(x, table)
    assert 1.01 < turning.gain(x, table[None]) == pytest.approx(float(x.norm() / near.norm()), rel=1e-4)
    words = commuting.word(torch.tensor([3, 14]), table)
    assert turning.gain(words, table[None]) == pytest.approx(1, rel=1e-4)


def test_matrices_err_less_each_time() -> None:
    x = rows() / rows().norm(dim=1, keepdim=True)
    matrix, errors = signed.start(x, 12), []
    for _ in range(6):
        matrix, error = signed.improve(matrix, x, torch.ones(len(x)))
        errors.append(error)
    assert errors[-1] < 0.85 * errors[0] and all(b < a * 1.02 for a, b in pairwise(errors))
    assert bool((matrix.norm(dim=1).diff() <= 1e-6).all()), "the longest rows come first"
    first = signed.start(x, 12)
    assert len(first) == 12 and float((x - signs.decode(signs.encode(x, first), first)).norm()) < x.norm()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few iterations on few vectors."""
    for name, value in (("SOFT", 2), ("HARD", 2), ("SIGNED", 2), ("PART", 64)):
        monkeypatch.setattr(course, name, value)
    monkeypatch.setattr(training, "VECTORS", 120)


def job(state: Path | None = None) -> Job:
    model = tiny("llama")
    texts = Texts(3, lambda i: prompts(1, 63, seed=i), {"split": "train"})
    purpose = Purpose("commvq", "commuting", make("commvq"), (), "pre")
    return Job(purpose, Reader(model, (), True), texts, "commvq", 189, 0, state)


@pytest.mark.usefixtures("short")
def test_what_is_made_serves_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training.train(job())
    model = tiny("llama")
    assert made.kind == "commuting" and made.header["for"] == {"part": "commvq"}
    assert {name: list(tensor.shape) for name, tensor in made.tensors.items()} == {
        "keys": [3, 4, 2, 64, 16],
        "middle_keys": [3, 4, 16],
        "scale_keys": [3, 4, 16],
        "gain_keys": [3, 4],
        "values_1": [3, 4, 16, 16],
        "values_2": [3, 4, 32, 16],
        "middle_values": [3, 4, 16],
    }
    assert all(0 < error < 1 for layer in made.header["error"].values() for error in layer)
    assert all(
        b < a for a, b in zip(made.header["error"]["values_1"], made.header["error"]["values_2"], strict=True)
    )
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    asset.write(tmp_path / "assets" / assets.fingerprint(model) / "commvq.safetensors", made)
    for bits in (1, 2):
        cache = KVCache(model, f"commvq({bits}, residual=0)")
        drive.run(model, cache, drive.text(70).calls(70))
        assert cache.ledger().fixed_bytes == sum(tensor.nbytes for tensor in made.tensors.values())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("at", [2, 12])
def test_an_interrupted_training_ends_the_same(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, done = training.train(job()), []
    step = course.Course.step

    def broken(self: Any, number: int) -> dict[str, float]:
        done.append(number)
        if len(done) == at:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(course.Course, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        training.train(job(tmp_path))
    again = training.train(job(tmp_path))
    assert 0 < done[at - 1] - done[at] < 10 or done[at] == 0, "it went on from what was kept every ten steps"
    assert all(torch.equal(x, whole.tensors[name]) for name, x in again.tensors.items())
