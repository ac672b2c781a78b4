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
        own, mine = made.header.get("for"), self.header["for"]
        if not isinstance(own, Mapping):
            raise AssetError(f"the asset {path} does not say what it was made for; {CALIBRATE}")
        was, needed = (
            ", ".join(
                f"{key}={facts.get(key)}" for key in sorted({*own, *mine}) if own.get(key) != mine.get(key)
            )
            for facts in (own, mine)
        )
        behind = made.header.get("behind", ""), self.header["behind"]
        if behind[0] != behind[1]:
            was, needed = (f"what {before or 'no transform'} gives" for before in behind)
        if was != needed:
            raise AssetError(
                f"the asset {path} was made for {was}, the recipe's {self.part.name} needs one made for "
                f"{needed}; give it a name of its own, and {CALIBRATE}"
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
