"""What is refused of reading little, with a piece of the sentence that says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from keyvalise import KVCache
from keyvalise.store import spill
from keyvalise.types.errors import BadArgument, InputError, NoRoom, RecipeError, TierLost, UnmetNeed
from keyvalise.types.slow import Slow
from tests.support.misuses import json, recipe
from tests.support.models import tiny


def nowhere() -> Any:
    """A folder that is not there."""
    return spill.DiskSpill.of(torch.zeros(3, 10, dtype=torch.uint8), Slow(folder="/nowhere/at/all"))


def cut() -> Any:
    """A file that has become shorter."""
    found = spill.DiskSpill.of(torch.zeros(3, 10, dtype=torch.uint8), Slow())
    os.ftruncate(found.number, 4)
    return found.read(0, 3)


def unreadable() -> Any:
    """A file that can only be written."""
    found = spill.DiskSpill.of(torch.zeros(3, 10, dtype=torch.uint8), Slow())
    with open(os.devnull, "wb") as file:
        return replace(found, number=file.fileno()).read(0, 3)


def full_disk() -> Any:
    """More bytes than any disk has."""
    return spill.DiskSpill.of(torch.zeros(1, 1, dtype=torch.uint8).expand(2**60, 2), Slow())


ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    RecipeError: [
        (recipe("box > read(9)"), "the reader 'box, read' has no unit; it needs one of clusters, heads"),
        (recipe("pages > box"), "the reader 'pages, box' has no read; it needs one of cutoff, read, sift"),
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
        (
            recipe("tokens > graph > each > cutoff(9)"),
            "cutoff needs units:ranked, which neither the model nor an",
        ),
    ],
    NoRoom: [
        (lambda: Slow(9).claim("host", 10), "would take 10 bytes, and 9 are allowed; allow more with --host"),
        (full_disk, "entries on disk would take 2305843009213693952 bytes in "),
    ],
    TierLost: [
        (nowhere, "entries cannot be written to /nowhere/at/all: No such file"),
        (cut, "entries on disk are gone: their file has become shorter; make a new cache"),
        (unreadable, "entries on disk cannot be read: Bad file descriptor"),
    ],
    InputError: [
        (
            lambda: KVCache(tiny("llama"), host_memory="9%"),
            "must be a number of bytes such as 8GiB, got '9%'",
        ),
        (lambda: KVCache(tiny("llama"), host_memory=0), "must be a number of bytes such as 8GiB, got 0"),
    ],
    BadArgument: [
        (recipe("pages(0) > read(9)"), "n=0 is not allowed; n must be a whole number at least 1"),
        (recipe("pages > read(101%)"), "amount=Share(percent=101.0) is not allowed; amount must be a whole"),
        (recipe("pages > landmarks(0) > read(9)"), "n=0 is not allowed; n must be a whole number at least 1"),
        (recipe("pages > cutoff(9, floor=2)"), "floor=2.0 is not allowed; floor must be a number at least 0"),
        (recipe("pages > cutoff(9, most=0.5)"), "most=0.5 is not allowed; most must be a number at least 1"),
    ],
}
