"""The arguments of a part: fields with a range, and fields that name an asset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from keyvalise.types.errors import BadArgument
from keyvalise.types.quantity import Share


def arg(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
    doc: str = "",
    is_window: bool = False,
    above: str = "",
    word: str = "",
) -> Any:
    """A field with its range; is_window: tokens, too many for a small budget; above: a field that is less;
    word: what it is called in a recipe, where that is another name.
    """
    meta = {"low": low, "high": high, "choices": choices, "doc": doc, "is_window": is_window}
    return dataclasses.field(default=default, metadata={**meta, "above": above, "word": word})


def rope_side(default: Literal["pre", "post"]) -> Any:
    """A field that says whether keys are taken before the rotary embedding."""
    doc = "before the rotary embedding, or as stored"
    return arg(default, choices=("pre", "post"), doc=doc, word="side")


def asset(default: str, doc: str, kind: str | None = None) -> Any:
    """A field that names an asset: a file, or one that is kept for the model under this name; the part finds
    its tensors in `env.fixed` under the same name. An asset of another `kind` is refused.
    """
    return dataclasses.field(default=default, metadata={"asset": True, "kind": kind, "doc": doc})


def assets(part: Any) -> tuple[tuple[str, str | None], ...]:
    """(name, kind) of the assets that a part names; kind None: any."""
    fields = [field for field in dataclasses.fields(part) if field.metadata.get("asset")]
    return tuple((getattr(part, field.name), field.metadata["kind"]) for field in fields)


def allowed(field: dataclasses.Field[Any]) -> str:
    """The range of a field in words."""
    meta = field.metadata
    if meta.get("choices"):
        return "one of " + ", ".join(map(str, meta["choices"]))
    low, high = meta.get("low"), meta.get("high")
    bounds = [f"at least {low}"] if low is not None else []
    bounds += [f"at most {high}"] if high is not None else []
    kind = "a whole number or a percentage" if "Amount" in str(field.type) else "a number"
    if isinstance(field.default, str):
        kind = "a word"
    elif isinstance(field.default, bool):
        kind = "true or false"
    elif isinstance(field.default, int) and "Amount" not in str(field.type):
        kind = "a whole number"
    return kind + (" " + " and ".join(bounds) if bounds else "")


def check_arguments(part: Any) -> None:
    """Raise BadArgument for the first field outside its range.

    Raises   BadArgument naming field, value and range
    """
    for field in dataclasses.fields(part):
        value, meta = getattr(part, field.name), field.metadata
        if not _fits(field, value, meta):
            raise BadArgument(field.name, value, allowed(field))


def _fits(field: dataclasses.Field[Any], value: Any, meta: Mapping[str, Any]) -> bool:
    if meta.get("choices"):
        return value in meta["choices"]
    if value is None or field.default is None:
        return field.default is None
    if isinstance(field.default, str | bool):
        return type(value) is type(field.default)
    if isinstance(value, Share):
        return "Amount" in str(field.type) and 0 <= value.percent <= 100
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(field.default, int) and not isinstance(value, int):
        return False
    low, high = meta.get("low"), meta.get("high")
    return (low is None or value >= low) and (high is None or value <= high)
