"""Between a part and its words: arguments from text and JSON, and back.

A word is what a field is called in a text; it is the field's name unless the field's metadata says otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keyvalise.recipe import catalogue
from keyvalise.types.argument import allowed, check_arguments
from keyvalise.types.errors import BadArgument, RecipeError, UnknownName
from keyvalise.types.quantity import Share, plain

Value = int | float | bool | str | Share

BARE = ("n", "size", "how", "bits", "by", "into", "code", "amount")
"""Leading arguments that read well without their name: window(32), pool(7, max), layer(mean), kivi(4)."""


def word(field: dataclasses.Field[Any]) -> str:
    """What a field is called in a text."""
    return str(field.metadata.get("word") or field.name)


def fields(part: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The arguments of a part or of its class."""
    return dataclasses.fields(part)


def make(name: str, given: Sequence[Value] = (), named: Mapping[str, Value] | None = None) -> Any:
    """The part of this name with these arguments, checked.

    Raises   UnknownName for a part or argument that does not exist; BadArgument for a value out of range
    """
    kind = catalogue.part(name)
    known = {word(field): field for field in fields(kind)}
    if len(given) > len(known):
        raise RecipeError(
            f"{name} takes {len(known)} arguments ({', '.join(known) or 'none'}), got {len(given)}"
        )
    values = dict(zip(known, given, strict=False))
    for key, value in (named or {}).items():
        if key not in known:
            raise UnknownName(f"argument of {name}", key, known)
        if key in values:
            raise RecipeError(f"{name} is given {key} twice")
        values[key] = value
    part = kind(**{known[key].name: _typed(known[key], value) for key, value in values.items()})
    check(part)
    return part


def changed(part: Any, key: str, value: Value) -> Any:
    """The same part with one argument changed, checked."""
    field = next((field for field in fields(part) if word(field) == key), None)
    if field is None:
        raise UnknownName(f"argument of {part.name}", key, map(word, fields(part)))
    part = dataclasses.replace(part, **{field.name: _typed(field, value)})
    check(part)
    return part


def check(part: Any) -> None:
    """Raise BadArgument, with the part's name and the word of the text, for the first field out of range."""
    try:
        check_arguments(part)
    except BadArgument as error:
        for field in fields(part):
            if word(field) != field.name and str(error).startswith(f"{field.name}="):
                raise BadArgument(word(field), getattr(part, field.name), allowed(field)).at(
                    part.name
                ) from None
        raise error.at(part.name) from None


def check_order(part: Any) -> None:
    """Raise BadArgument, with the part's name, for the first argument that is not above the one it must be.

    Apart from the ranges, because arguments are given one after another, and only all of them are in order.
    """
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    for field in fields(part):
        other = field.metadata.get("above")
        if other and not values[field.name] > values[other]:
            limit = f"above {other}, which is {values[other]!r}"
            raise BadArgument(word(field), values[field.name], limit).at(part.name)


def _typed(field: dataclasses.Field[Any], value: Value) -> Value:
    """Whole numbers as floats where the field holds floats, so that equal texts give equal parts."""
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(field.default, float):
        return float(value)
    return value


def written(part: Any) -> str:
    """The part in a recipe's text: its name and every argument that is not the default."""
    words: list[str] = []
    is_leading = True
    for field in fields(part):
        value = getattr(part, field.name)
        bare = is_leading and field.name in BARE and (not words or value != field.default)
        if bare:
            words.append(spoken(value))
        elif value != field.default:
            words.append(f"{word(field)}={spoken(value)}")
        is_leading = bare
    return f"{part.name}({', '.join(words)})" if words else str(part.name)


def joined(parts: Sequence[Any]) -> str:
    """A chain of parts in a recipe's text."""
    return " > ".join(map(written, parts))


def spoken(value: Value) -> str:
    """A value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not value.isidentifier():
        return f"'{value}'"
    return plain(value + 0.0) if isinstance(value, float) else str(value)  # no sign before zero


def to_dict(part: Any) -> dict[str, Any]:
    """The part for JSON, with every argument, so that a later default changes nothing."""
    values = {word(field): getattr(part, field.name) for field in fields(part)}
    plain_values = {key: str(value) if isinstance(value, Share) else value for key, value in values.items()}
    return {"part": part.name, **plain_values}


def from_dict(data: Mapping[str, Any]) -> Any:
    """The part that `to_dict` described."""
    if not isinstance(data, Mapping) or not isinstance(data.get("part"), str):
        raise RecipeError(f"a part in JSON is an object with its name under 'part', got {data!r}")
    kind = catalogue.part(data["part"])
    amounts = {word(field) for field in fields(kind) if "Amount" in str(field.type)}
    named = {
        key: share(value) if key in amounts and isinstance(value, str) else value
        for key, value in data.items()
        if key != "part"
    }
    return make(data["part"], named=named)


def share(text: str) -> Value:
    """'50%' as a share; anything else as it is, for the range check to name."""
    number = text.removesuffix("%")
    is_share = text.endswith("%") and number.replace(".", "", 1).isdigit()
    return Share(float(number)) if is_share else text
