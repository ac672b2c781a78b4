"""A recipe as JSON, for headers of files and results: every argument written out, none left to defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from keyvalise.recipe import words
from keyvalise.recipe.reader import Reader
from keyvalise.recipe.stage import Fields, Stage
from keyvalise.recipe.turned import Turned, parts_of
from keyvalise.types.code import Encode
from keyvalise.types.errors import RecipeError
from keyvalise.types.part import DECIDING, READING
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from keyvalise.types.when import AtPrompt, Every, When

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

T = TypeVar("T")

FIELDS = {"stages", "name", "transforms", "code", "code_layers", "budget", "reader", "reader_layers"}


def write(recipe: Recipe) -> str:
    """The recipe as one line of JSON."""
    data: dict[str, Any] = {"stages": [_stage(stage) for stage in recipe.stages]}
    if recipe.name is not None:
        data["name"] = recipe.name
    if recipe.code is not None:
        *turns, code = map(words.to_dict, parts_of(recipe.code))
        data |= {"transforms": turns} if turns else {}
        data["code"] = code
        data["code_layers"] = str(recipe.code_layers)
    if recipe.reader is not None:
        data["reader"] = [words.to_dict(part) for part in recipe.reader.parts]
        data["reader_layers"] = str(recipe.reader_layers)
    if recipe.budget is not None:
        data["budget"] = str(recipe.budget)
    return json.dumps(data, ensure_ascii=False)


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "when": [_when(when) for when in stage.when],
        "parts": [words.to_dict(part) for part in stage.parts],
        "budget": None if stage.budget is None else str(stage.budget),
        "layers": str(stage.layers),
    }


def _when(when: When) -> dict[str, Any]:
    return {"every": when.n, "in": when.phase} if isinstance(when, Every) else {"at": "prompt"}


def read(data: str | Mapping[str, Any]) -> Fields:
    """The fields of the recipe that `write` wrote.

    Raises   RecipeError for JSON that is none or describes no recipe; UnknownName, BadArgument for its parts
    """
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except json.JSONDecodeError as error:
            raise RecipeError(f"this is no JSON: {error}") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("stages"), list):
        raise RecipeError("a recipe in JSON is an object with a list under 'stages'")
    unknown = set(data) - FIELDS
    if unknown:
        raise RecipeError(f"a recipe in JSON has no field {sorted(unknown)[0]!r}")
    code = _code(data.get("transforms", []), data.get("code"))
    layers = _text(Layers.parse, data.get("code_layers", ".."))
    reader = reader_of(data["reader"]) if "reader" in data else None
    return Fields(
        tuple(_read_stage(stage) for stage in data["stages"]),
        code,
        ALL_LAYERS if code is None else layers,
        None if data.get("budget") is None else _text(Budget.parse, data["budget"]),
        None if data.get("name") is None else _text(str, data["name"]),
        reader,
        ALL_LAYERS if reader is None else _text(Layers.parse, data.get("reader_layers", "..")),
    )


def reader_of(parts: Any) -> Reader:
    """The reader whose parts `words.to_dict` described, one of every room."""
    if not isinstance(parts, list):
        raise RecipeError(f"a reader in JSON is a list of parts, got {parts!r}")
    found = _in_rooms(parts, READING)
    missing = [room for room in READING if room not in found]
    if missing:
        raise RecipeError(f"a reader in JSON names all its parts; {missing[0]} is missing")
    return Reader(**found)


def _read_stage(data: Any) -> Stage:
    if not isinstance(data, Mapping) or not all(isinstance(data.get(key), list) for key in ("when", "parts")):
        raise RecipeError(f"a stage in JSON is an object with lists under 'when' and 'parts', got {data!r}")
    if not data["when"]:
        raise RecipeError("a stage in JSON says at least once when it acts")
    parts = _in_rooms(data["parts"], DECIDING)
    missing = {"score", "allocate", "select", "act"} - parts.keys()
    if missing:
        raise RecipeError(f"a stage in JSON names all its parts; {sorted(missing)[0]} is missing")
    return Stage(
        tuple(_read_when(when) for when in data["when"]),
        parts["score"],
        tuple(parts.get("rescore", ())),
        parts["allocate"],
        parts["select"],
        parts["act"],
        None if data.get("budget") is None else _text(Budget.parse, data["budget"]),
        _text(Layers.parse, data.get("layers", "..")),
    )


def _code(turns: Any, code: Any) -> Encode | None:
    if not isinstance(turns, list) or (turns and code is None):
        raise RecipeError("transforms in JSON are a list beside a code")
    if code is None:
        return None
    made: Encode = _in_rooms([code], ("encode",))["encode"]
    found = [_in_rooms([turn], ("transform",))["transform"] for turn in turns]
    return Turned(tuple(found), made) if found else made


def _in_rooms(parts: Any, rooms: tuple[str, ...]) -> dict[str, Any]:
    """room → part; under "rescore" a list."""
    found: dict[str, Any] = {}
    for part in map(words.from_dict, parts):
        if part.room not in rooms or (part.room in found and part.room != "rescore"):
            raise RecipeError(f"the part {part.name} has no place here")
        if part.room == "rescore":
            found.setdefault("rescore", []).append(part)
        else:
            found[part.room] = part
    return found


def _read_when(data: Any) -> When:
    if data == {"at": "prompt"}:
        return AtPrompt()
    n = data.get("every") if isinstance(data, Mapping) else None
    if type(n) is not int or n < 1 or data.get("in") not in (None, "prompt", "decode"):
        raise RecipeError(
            f"a schedule in JSON is {{'at': 'prompt'}} or {{'every': n, 'in': phase}}, got {data!r}"
        )
    return Every(n, data.get("in"))


def _text(read: Callable[[str], T], value: Any) -> T:
    if not isinstance(value, str):
        raise RecipeError(f"expected a text, got {value!r}")
    return read(value)
