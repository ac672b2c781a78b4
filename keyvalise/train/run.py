"""Steps whose state lies in a file, so that an interrupted run goes on where it was and ends the same.

Knows nothing of what a step does: it is a function of the step's number and of tensors that it changes in
place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError, InputError

KIND = "training"

Step = Callable[[int], Mapping[str, float]]


@dataclass
class Run:
    """settings   plain JSON: all that decides the result, which a run shares with the one that it goes on
    path       the file of the state; None: nothing is kept;  every: steps from one writing to the next
    trail      the figures of every step so far;  is_shown: whether a person may see a bar
    """

    name: str
    n_steps: int
    settings: Mapping[str, Any]
    path: Path | None = None
    every: int = 10
    trail: list[dict[str, float]] = field(default_factory=list)
    is_shown: bool = True

    def go(self, step: Step, tensors: Mapping[str, Tensor]) -> list[dict[str, float]]:
        """Take the steps that are missing; the figures of all. The state stays until `done` is called.

        Raises   InputError for the state of a run with other settings; AssetError for a damaged one
        """
        self._resume(tensors)
        with self._bar() as bar:
            task = bar.add_task(self.name, total=self.n_steps, completed=len(self.trail))
            while len(self.trail) < self.n_steps:
                self.trail.append({name: float(x) for name, x in step(len(self.trail)).items()})
                bar.advance(task)
                if len(self.trail) % self.every == 0 or len(self.trail) == self.n_steps:
                    self._keep(tensors)
        return self.trail

    def done(self) -> None:
        """Forget the state: the product has been written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _keep(self, tensors: Mapping[str, Tensor]) -> None:
        if self.path is not None:
            header = {"name": self.name, "settings": self._plain(), "trail": self.trail}
            asset.write(self.path, Asset(KIND, tensors, header))

    def _resume(self, tensors: Mapping[str, Tensor]) -> None:
        if self.path is None or not self.path.is_file():
            return
        found = self._read(self.path)
        kept, own = found.header["settings"], self._plain()
        for key in sorted({*kept, *own}):
            if kept.get(key) != own.get(key):
                raise InputError(
                    f"the interrupted run in {self.path} has {key}={kept.get(key)}, this one {own.get(key)}; "
                    "give the same settings, or begin anew with --fresh"
                )
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(found.tensors[name])
        self.trail[:] = found.header["trail"]

    def _read(self, path: Path) -> Asset:
        try:
            found = asset.read(path)
        except AssetError as error:
            raise AssetError(f"{error}; it was an interrupted run's, begin anew with --fresh") from None
        if found.kind != KIND or found.header.get("name") != self.name:
            raise AssetError(f"{path} is not the state of an interrupted run of {self.name}")
        return found

    def _plain(self) -> dict[str, Any]:
        """The settings as they are read back."""
        plain: dict[str, Any] = json.loads(json.dumps(dict(self.settings)))
        return plain

    def _bar(self) -> Progress:
        console = Console(stderr=True, highlight=False)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        is_shown = self.is_shown and console.is_terminal
        return Progress(*columns, console=console, transient=True, disable=not is_shown)


def adam(values: Tensor, **options: Any) -> tuple[torch.optim.Optimizer, dict[str, Tensor]]:
    """An AdamW for one tensor, and its state as tensors that it changes in place."""
    optimiser = torch.optim.AdamW([values], **options)
    state = {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros_like(values, requires_grad=False),
        "exp_avg_sq": torch.zeros_like(values, requires_grad=False),
    }
    optimiser.state[values] = state
    return optimiser, dict(state)


def slope(step: int, n_steps: int) -> float:
    """The schedule of the gates: up over the first fifth, down over the last, never below a tenth."""
    ramp = n_steps / 5
    return min(1.0, max(step / ramp, 0.1), max((n_steps - step) / ramp, 0.1))
