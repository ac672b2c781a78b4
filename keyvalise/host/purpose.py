"""What trained assets are wanted for: the part and its arguments, and the transforms that stand before it.

A codebook for other arguments, or of keys that no transform had changed, fits a model's shapes and would do
harm in silence; so the header of a trained asset says what it was made for, and is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyvalise.recipe import tier, words
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.turned import parts_of
from keyvalise.store.asset import Asset
from keyvalise.types import argument
from keyvalise.types.code import Side, Trained, Transform
from keyvalise.types.errors import AssetError

CALIBRATE = "train one with `keyvalise calibrate MODEL RECIPE`"


@dataclass(frozen=True)
class Purpose:
    """The asset `name` of this `kind`, for a part behind transforms; side: on which the code is given
    keys.
    """

    name: str
    kind: str | None
    part: Any
    before: tuple[Transform, ...]
    side: Side

    @property
    def header(self) -> Mapping[str, Any]:
        """What the asset's header must say."""
        return {"for": {"part": self.part.name, **self.part.asked_for}, "behind": words.joined(self.before)}

    def check(self, made: Asset, path: Path) -> None:
        """Raise AssetError where an asset was made for something else."""
        for field, mine in self.header.items():
            own = made.header.get(field)
            if own != mine:
                raise AssetError(
                    f"the asset {path} was made {_told(field, own)}, {self.part.name} needs one made "
                    f"{_told(field, mine)}; give it a name of its own, and {CALIBRATE}"
                )


def of(recipe: Recipe) -> list[Purpose]:
    """The trained assets that a recipe names, those of transforms before those of what stands behind them."""
    codes = [code for code in (*map(tier.of, recipe.stages), recipe.code) if code is not None]
    return [
        Purpose(name, kind, part, tuple(parts_of(code)[:i]), code.side)
        for code in codes
        for i, part in enumerate(parts_of(code))
        if isinstance(part, Trained)
        for name, kind in argument.assets(part)
    ]


def _told(field: str, value: Any) -> str:
    if field == "behind":
        return f"behind {value}" if value else "behind no transform"
    if not isinstance(value, Mapping):
        return "for nobody knows what"
    return "for " + ", ".join(f"{key}={x}" for key, x in value.items())
