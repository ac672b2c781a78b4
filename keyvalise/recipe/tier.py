"""The code in which a stage writes its losers, where its act keeps them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from keyvalise.recipe import text
from keyvalise.recipe.turned import parts_of
from keyvalise.types.code import Chained, Encode
from keyvalise.types.errors import BadArgument, RecipeError
from keyvalise.types.part import Demoting

if TYPE_CHECKING:
    from keyvalise.recipe.stage import Stage


def of(stage: Stage) -> Encode | None:
    """The code, None where losers are not kept.

    Raises   BadArgument where the words name none, or one whose tokens share parameters in groups
    """
    return _made(stage.act.code) if isinstance(stage.act, Demoting) else None


@cache
def _made(words: str) -> Encode:
    try:
        fields = text.parse(words)
    except RecipeError as error:
        raise BadArgument("code", words, f"a code in the words of a recipe ({error})") from None
    if fields.stages or fields.code is None:
        raise BadArgument("code", words, "a code in the words of a recipe, such as int2, without stages")
    if isinstance(fields.code, Chained):
        raise BadArgument("code", words, "a code that writes every head and layer by itself")
    if fields.code.group > 1:
        grouped = parts_of(fields.code)[-1].name
        raise BadArgument("code", words, f"a code that writes tokens one by one; {grouped} writes groups")
    return cast(Encode, fields.code)
