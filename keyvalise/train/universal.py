"""Make the codebooks of eight numbers that serve all models: trained on noise alone.

    python -m keyvalise.train.universal --out FOLDER

Formula    Lloyd's iterations from random samples, every one on new noise; in the later half a vector moves
           only a share of the way, the less the later, so that what single samples add is averaged away
Units      samples: vectors of eight numbers for each iteration
Differs    the nearest vector, not the one at the smallest angle, so that lengths are coded too; stored in 32
           bits, not in 4
Paper      Son et al. 2025, arXiv 2505.18231            Confidence  reconstruction
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from keyvalise.ops import octets
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train import options
from keyvalise.train.run import Run

NAME = "octets"
N_VECTORS = 256


def noise(n: int, seed: int, is_positive: bool) -> Tensor:
    """n vectors of eight independent normal numbers [n, 8], or of their sizes."""
    drawn = torch.randn(n, octets.SIZE, generator=torch.Generator().manual_seed(seed))
    return drawn.abs() if is_positive else drawn


def improve(book: Tensor, samples: Tensor, pace: float) -> float:
    """Move every vector towards the mean of what lies nearest to it; the mean squared error before.

    A vector to which nothing is near moves to a random sample.
    """
    nearest = octets.nearest(samples, book)
    error = (samples - book[nearest]).square().mean()
    counts = torch.bincount(nearest, minlength=len(book))
    sums = torch.zeros_like(book).index_add_(0, nearest, samples)
    means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], samples[: len(book)])
    book += pace * (means - book)
    return float(error)


def learn(n_samples: int, seed: int, steps: Run) -> dict[str, Tensor]:
    """The two codebooks [256, 8]; `steps.trail` tells the error of each iteration."""
    books = {
        name: noise(N_VECTORS, seed + place, name == "positive")
        for place, name in enumerate(("positive", "signed"))
    }

    def step(number: int) -> dict[str, float]:
        late = max(0.0, 2 * number / steps.n_steps - 1)
        pace = 1 - 0.9 * late
        found = {}
        for place, (name, book) in enumerate(books.items()):
            samples = noise(n_samples, seed + 2 * (number + 1) + place, name == "positive")
            found[name] = improve(book, samples, pace)
        return found

    steps.go(step, books)
    return books


def distortion(books: dict[str, Tensor], n: int = 2**16, seed: int = 10**6) -> dict[str, float]:
    """Mean squared error of unit noise that no iteration has seen."""
    fresh = {name: noise(n, seed, name == "positive") for name in books}
    return {
        name: float((x - books[name][octets.nearest(x, books[name])]).square().mean())
        for name, x in fresh.items()
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="python -m keyvalise.train.universal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse.add_argument("--steps", type=int, default=100)
    parse.add_argument("--samples", type=int, default=2**17)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--out", required=True, help="folder for the codebooks")
    return parse


def main() -> None:
    """Train, measure, keep."""
    with options.said():
        given = parser().parse_args()
        settings = {"steps": given.steps, "samples": given.samples, "seed": given.seed}
        books = learn(given.samples, given.seed, Run(NAME, given.steps, settings))
        header = {
            "axes": {name: ["vector", "channel"] for name in books},
            "trained_on": "independent normal numbers",
            "distortion": {name: round(error, 4) for name, error in distortion(books).items()},
            **settings,
        }
        place = Path(given.out) / f"{NAME}.safetensors"
        asset.write(place, Asset(NAME, books, header))
        print(json.dumps({"file": str(place), **header}))


if __name__ == "__main__":
    main()
