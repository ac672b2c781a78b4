"""What all trainings ask on their command line, and where their products and interrupted runs lie."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.reference import loading
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.train.run import Run
from keyvalise.types.errors import HostError, InputError, KeyvaliseError

PLACES = ("model", "device", "dtype", "threads", "save", "out", "state", "fresh")
"""Options that say where to work and where to put things; all others decide the result."""


class Course(Protocol):
    """What every training of gates can be told."""

    @property
    def penalty(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def sinks(self) -> int: ...
    @property
    def recent(self) -> int: ...


def parser(name: str, doc: str | None, *, steps: int, lengths: tuple[int, int]) -> argparse.ArgumentParser:
    """The options that every training has."""
    parse = argparse.ArgumentParser(
        prog=f"python -m keyvalise.train.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = "'reference', a folder, or a name on the hub"
    parse.add_argument("--model", default=loading.REFERENCE, help=names)
    parse.add_argument("--steps", type=int, default=steps)
    parse.add_argument("--lengths", type=int, nargs=2, default=list(lengths), metavar=("FROM", "TO"))
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--dtype", default="auto", help="of the model's weights")
    parse.add_argument("--threads", type=int, default=0, help="of the CPU (default: as many as torch takes)")
    parse.add_argument("--save", action="store_true", help="keep the product where recipes look for it")
    parse.add_argument("--out", help="folder for the product instead")
    parse.add_argument("--state", help="file of the interrupted run (default: beside the user's assets)")
    parse.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    return parse


def add_gates(parse: argparse.ArgumentParser, course: Course) -> None:
    """The options of gates, with what a course does by default."""
    parse.add_argument("--penalty", type=float, default=course.penalty, help="λ, the price of open gates")
    parse.add_argument("--rate", type=float, default=course.rate, help="learning rate")
    parse.add_argument("--sinks", type=int, default=course.sinks, help="first tokens that streams see")
    parse.add_argument("--recent", type=int, default=course.recent, help="newest tokens that streams see")


@contextmanager
def said() -> Iterator[None]:
    """Errors of ours become one line on stderr and an exit code, as in the command line."""
    try:
        yield
    except KeyboardInterrupt:
        print("keyvalise: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    except KeyvaliseError as error:
        print(f"keyvalise: {error}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, HostError) else 2) from None


def load(given: argparse.Namespace) -> tuple[Any, Any]:
    """(model in evaluation mode on its device, tokenizer).

    Raises   InputError where the model, its dtype or the device is not to be had
    """
    if given.steps < 1 or not 1 <= given.lengths[0] <= given.lengths[1]:
        raise InputError("--steps must be at least 1, and --lengths two numbers, the shorter first")
    if given.threads:
        torch.set_num_threads(given.threads)
    return loading.model(given.model, given.device, given.dtype)


def text(path: str) -> str:
    """A file of the user's.

    Raises   InputError where it cannot be read as text
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from None


def steps(given: argparse.Namespace, name: str, model: Any, **more: Any) -> Run:
    """The run that these options ask for; `more` is what decides its result beside them."""
    mark = assets.fingerprint(model)
    path = Path(given.state) if given.state else assets.home() / mark / "training" / f"{name}.safetensors"
    if given.fresh:
        path.unlink(missing_ok=True)
    settings = {key: value for key, value in vars(given).items() if key not in PLACES and value is not None}
    settings = {("lambda" if key == "penalty" else key): value for key, value in settings.items()}
    return Run(name, given.steps, {"model": mark, **settings, **more}, path)


def keep_gates(
    given: argparse.Namespace, model: Any, table: Tensor, done: Run, facts: Mapping[str, Any]
) -> None:
    """Gates [L, H] as an asset of heads."""
    form = {"form": "gates", "granularity": "kv", "split": "train"}
    header = {**form, **done.settings, **facts, "curve": curve(done.trail)}
    keep(given, model, Asset("heads", {"heads": table.float()}, header), done)


def curve(trail: Sequence[Mapping[str, float]], points: int = 10) -> dict[str, list[float]]:
    """Every figure of a run as the means of equal stretches of it."""
    points = min(points, len(trail))
    ends = [len(trail) * i // points for i in range(points + 1)]
    parts = [trail[begin:end] for begin, end in pairwise(ends)]
    return {
        name: [round(sum(figures[name] for figures in part) / len(part), 6) for part in parts]
        for name in trail[0]
    }


def keep(given: argparse.Namespace, model: Any, made: Asset, done: Run) -> None:
    """Write an asset whole or not at all, forget the run's state, and say where it is; or only show it."""
    shown = {key: tensor.tolist() for key, tensor in made.tensors.items()}
    place: Path | None = None
    if given.out or given.save:
        folder = Path(given.out) if given.out else assets.home() / assets.fingerprint(model)
        place = folder / f"{done.name}.safetensors"
        asset.write(place, made)
        done.done()
    file = None if place is None else str(place)
    print(json.dumps({"name": done.name, "file": file, **made.header, **shown}, ensure_ascii=False))
