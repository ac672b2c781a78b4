"""One asset that is to be made: for what, from which texts, and how its file begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from keyvalise.host import assets
from keyvalise.host.purpose import Purpose
from keyvalise.store.asset import Asset
from keyvalise.train.readings import Reader
from keyvalise.train.run import Run
from keyvalise.train.texts import Texts


@dataclass(frozen=True)
class Job:
    """purpose  for which part, behind which transforms;  reader: the model, behind those transforms
    name     under which it is kept;  tokens: that were asked for
    state    folder of interrupted runs, None: nothing is kept;  is_shown: whether progress may be drawn
    """

    purpose: Purpose
    reader: Reader
    texts: Texts
    name: str
    tokens: int
    seed: int = 0
    state: Path | None = None
    is_shown: bool = True

    @property
    def part(self) -> Any:
        return self.purpose.part

    @property
    def facts(self) -> dict[str, Any]:
        """What the product is made for and from, as its header says it."""
        return {
            "model": assets.fingerprint(self.reader.model),
            **self.purpose.header,
            "tokens": self.tokens,
            **self.texts.facts,
            "seed": self.seed,
        }

    def run(self, n_steps: int) -> Run:
        """The run that makes it, which goes on where an interrupted one was."""
        path = None if self.state is None else self.state / f"{self.name}.safetensors"
        return Run(self.name, n_steps, self.facts, path, is_shown=self.is_shown)

    def forget(self) -> None:
        """Forget a run that was broken off, or has done its work."""
        self.run(0).done()

    def axis(self, name: str) -> str:
        """What the axis of a key's or value's numbers is called: the head's, unless a transform changed
        it.
        """
        word = {"keys": "key_dim", "values": "value_dim"}[name]
        whole = Reader(self.reader.model).geometry
        return word if getattr(whole, word) == getattr(self.reader.geometry, word) else f"inner_{word}"

    def asset(
        self, tensors: Mapping[str, Tensor], axes: Mapping[str, Sequence[str]], more: Mapping[str, Any]
    ) -> Asset:
        """The product with its header."""
        held = {name: tensor.contiguous() for name, tensor in tensors.items()}
        return Asset(str(self.purpose.kind), held, {**self.facts, "axes": dict(axes), **more})
