"""What is refused of reading little, with a piece of the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keyvalise.types.errors import BadArgument, RecipeError, UnmetNeed
from tests.support.misuses import json, recipe

ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    RecipeError: [
        (recipe("box > read(9)"), "the reader 'box, read' has no unit; it needs one of clusters, pages"),
        (recipe("pages > box"), "the reader 'pages, box' has no read; it needs one of read"),
        (recipe("every 9: pages > read(9)"), "a reader has no schedule; it stands behind a semicolon"),
        (recipe("pages > read(9) on 8.."), "'on 8..' names no layer; the model has layers 0 to 2"),
        (
            recipe("aquakv > pages > read(9)"),
            "needs heads that are written one by one, and aquakv writes all",
        ),
        (recipe("h2o > pages > read(9) @ 40%"), "the stage 'every 1 in decode' would judge all of them"),
        (json({"stages": [], "reader": {}}), "a reader in JSON is a list of parts, got {}"),
        (json({"stages": [], "reader": [{"part": "pages"}]}), "names all its parts; summary is missing"),
        (json({"stages": [], "reader": [{"part": "drop"}]}), "the part drop has no place here"),
    ],
    UnmetNeed: [
        (recipe("knorm > drop(positions=slot) @ 9%; pages > read(9)"), "needs all keys when it reads, and"),
        (
            recipe("pages > box > read(9) > estimate"),
            "estimate needs units:mean, which neither the model nor",
        ),
        (
            recipe("clusters > together > read(9)"),
            "together needs units:alike, which neither the model nor an",
        ),
    ],
    BadArgument: [
        (recipe("pages(0) > read(9)"), "n=0 is not allowed; n must be a whole number at least 1"),
        (recipe("pages > read(101%)"), "amount=Share(percent=101.0) is not allowed; amount must be a whole"),
    ],
}
