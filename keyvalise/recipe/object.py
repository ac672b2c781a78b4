"""A recipe as a value: stages, a code, a reader, and the range of layers each is for.

Knows parts by their protocols only; text, JSON, bytes and checks are other files' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import cite, explain, json, tier
from keyvalise.recipe import text as texts
from keyvalise.recipe.reader import Reader
from keyvalise.recipe.stage import Stage
from keyvalise.recipe.turned import parts_of
from keyvalise.types.argument import assets as part_assets
from keyvalise.types.code import Code
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import TAPS
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from keyvalise.types.segment import Angle

__all__ = ["Recipe", "Stage"]


@dataclass(frozen=True)
class Recipe:
    """What happens to keys and values; the empty recipe keeps everything as it came.

    stages   in the order in which they act;  code: how keepers are written, None: raw
    reader   how few of the keepers are read, None: all
    budget   of the code, where there is no stage;  name: of the catalogue's entry it came from, if any
    """

    stages: tuple[Stage, ...] = ()
    code: Code | None = None
    code_layers: Layers = ALL_LAYERS
    budget: Budget | None = None
    name: str | None = field(default=None, compare=False)
    reader: Reader | None = None
    reader_layers: Layers = ALL_LAYERS

    @staticmethod
    def parse(text: str) -> Recipe:
        """Read a recipe: a name of the catalogue, parts behind it, or stages written out.

        snapkv @ 25%      snapkv(window=64) > int4 @ 10%      at prompt: window(32) > drop(recent=32) @ 128tok

        Raises   RecipeError naming the place; UnknownName with the nearest names
        """
        return Recipe(*texts.parse(text))

    def __str__(self) -> str:
        """The recipe in river order; `parse` reads it back."""
        return texts.write(self)

    def to_json(self) -> str:
        """The recipe as JSON, with every argument written out."""
        return json.write(self)

    @staticmethod
    def from_json(data: str | Mapping[str, Any]) -> Recipe:
        """Read what `to_json` wrote, as text or as the object it stands for."""
        return Recipe(*json.read(data))

    def bytes_per_token(self, config: Any, dtype: torch.dtype | None = None) -> float:
        """Bytes that every further token of a long prompt adds for one row, over all layers of a model.

        0 where the budget is constant. What does not grow with the prompt (statistics, the raw residual) is
        not in it.
        """
        return sizes.slope(self, Geometry.of(config, dtype))

    def cite(self) -> str:
        """BibTeX of exactly the published ideas that the recipe uses."""
        return cite.bibtex(self)

    def describe(self) -> str:
        """The recipe in normal form, and one line per part: room, arguments, what it does."""
        return explain.describe(self)

    @property
    def positions(self) -> Angle:
        """How stored keys are turned when they are read: by their own position, or by their slot."""
        angles = {getattr(stage.act, "positions", "absolute") for stage in self.stages}
        return "slot" if "slot" in angles else "absolute"

    @property
    def assets(self) -> tuple[tuple[str, str | None], ...]:
        """(name, kind) of all assets that its parts name, each once."""
        return tuple(dict.fromkeys(named for part in self.parts for named in part_assets(part)))

    @property
    def taps(self) -> frozenset[str]:
        """What its parts want to know beside queries, keys and values."""
        return TAPS & frozenset().union(*(part.needs for part in self.parts))

    @property
    def spans(self) -> tuple[str, ...]:
        """Names of the spans that its stages are for, each once."""
        return tuple(dict.fromkeys(stage.only for stage in self.stages if stage.only))

    @property
    def weights(self) -> tuple[str, ...]:
        """The model's own weights that its parts read, such as "o_proj"."""
        needs = sorted(set().union(*(part.needs for part in self.parts)))
        return tuple(need.removeprefix("weight:") for need in needs if need.startswith("weight:"))

    @property
    def needs_rope(self) -> bool:
        """Whether any part must know the rotary embedding."""
        codes = [code for code in (self.code, *map(tier.of, self.stages)) if code is not None]
        is_pre = any(code.side == "pre" for code in codes)
        return self.positions == "slot" or is_pre or any("rope:static" in part.needs for part in self.parts)

    @property
    def parts(self) -> Iterator[Any]:
        """All parts in river order."""
        for stage in self.stages:
            yield from stage.parts
            if (code := tier.of(stage)) is not None:
                yield from parts_of(code)
        if self.code is not None:
            yield from parts_of(self.code)
        if self.reader is not None:
            yield from self.reader.parts
