"""Make the points for pairs of numbers that serve all models: trained on noise alone.

    python -m keyvalise.train.grids --out FOLDER

Formula    as train.universal, on pairs of independent normal numbers: 16, 64 and 256 points, 2 to 4 bits
Paper      Malinovskii et al. 2024, arXiv 2411.17525         Confidence  official code
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
from keyvalise.train.universal import improve

NAME = "grids"
SIZES = {"two": 16, "three": 64, "four": 256}
"""Points by the bits per number."""


def noise(n: int, seed: int) -> Tensor:
    """n pairs of independent normal numbers [n, 2]."""
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def learn(n_samples: int, seed: int, steps: Run) -> dict[str, Tensor]:
    """The grids [n, 2]; `steps.trail` tells the error of each iteration."""
    grids = {name: noise(n, seed) for name, n in SIZES.items()}

    def step(number: int) -> dict[str, float]:
        pace = 1 - 0.9 * max(0.0, 2 * number / steps.n_steps - 1)
        samples = noise(n_samples, seed + number + 1)
        return {name: improve(points, samples, pace) for name, points in grids.items()}

    steps.go(step, grids)
    return grids


def distortion(grids: dict[str, Tensor], n: int = 2**18, seed: int = 10**6) -> dict[str, float]:
    """Mean squared error of unit noise that no iteration has seen."""
    fresh = noise(n, seed)
    return {
        name: float((fresh - points[octets.nearest(fresh, points)]).square().mean())
        for name, points in grids.items()
    }


def main() -> None:
    """Train, measure, keep."""
    parse = argparse.ArgumentParser(
        prog="python -m keyvalise.train.grids",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse.add_argument("--steps", type=int, default=200)
    parse.add_argument("--samples", type=int, default=2**16)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--out", required=True, help="folder for the grids")
    with options.said():
        given = parse.parse_args()
        settings = {"steps": given.steps, "samples": given.samples, "seed": given.seed}
        grids = learn(given.samples, given.seed, Run(NAME, given.steps, settings))
        header = {
            "axes": {name: ["point", "channel"] for name in grids},
            "trained_on": "independent normal numbers",
            "distortion": {name: round(error, 5) for name, error in distortion(grids).items()},
            **settings,
        }
        place = Path(given.out) / f"{NAME}.safetensors"
        asset.write(place, Asset(NAME, grids, header))
        print(json.dumps({"file": str(place), **header}))


if __name__ == "__main__":
    main()
