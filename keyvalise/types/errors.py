"""Every error that Keyvalise raises on purpose, as one tree.

    KeyvaliseError
    ├── RecipeError (ValueError)         a recipe cannot be built
    │   ├── UnknownName                  no such recipe, part or argument; carries the nearest names
    │   ├── BadArgument                  a field outside its range
    │   ├── UnmetNeed                    a part needs what nobody before it gives
    │   └── ImpossibleBudget             the budget is below the least that works
    ├── HostError (RuntimeError)         a model, a cache or a call that cannot be served
    │   ├── UnsupportedModel
    │   ├── TornForward                  the previous forward stopped half way
    │   ├── StoreFailure                 a store that cannot be reached, read or written
    │   └── TierLost                     entries in a slow tier that can no longer be read
    └── InputError (ValueError)          a document, a file, a tensor or an option of the user
        ├── AssetError                   a profile or trained part that is missing, damaged or another model's
        ├── CacheFileError               a stored cache that cannot be read or written
        │   ├── Damaged                  its bytes are not what was written
        │   ├── FutureVersion            written by a later version
        │   └── OtherModel               made with another model, tokenizer or asset
        ├── DamagedStream                bytes of a bitstream that were changed, or never were one
        ├── NoRoom                       a slow tier that may not hold what is put into it
        └── StoreError                   a store's address, or what is asked of it or put into it

Inner parts raise the short fact; whoever knows the place adds it with `at`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KeyvaliseError(Exception):
    """Root of the tree; `at` puts the place before the message and returns the error itself."""

    def at(self, place: str) -> KeyvaliseError:
        self.args = (f"{place}: {self.args[0]}", *self.args[1:])
        return self


class RecipeError(KeyvaliseError, ValueError):
    """A recipe cannot be built."""


class UnknownName(RecipeError):
    """No such recipe, part, argument, task or command."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        super().__init__(f"unknown {kind} {name!r}; nearest: {', '.join(near) or 'none'}")
        self.nearest = near


class BadArgument(RecipeError):
    """A field's value lies outside what the part accepts."""

    def __init__(self, field: str, value: object, allowed: str):
        super().__init__(f"{field}={value!r} is not allowed; {field} must be {allowed}")


class UnmetNeed(RecipeError):
    """A part needs something that neither the host nor an earlier part gives."""


class ImpossibleBudget(RecipeError):
    """The budget is below the least that works."""


class HostError(KeyvaliseError, RuntimeError):
    """A model, cache or call that cannot be served."""


class UnsupportedModel(HostError):
    """The model's attention does not fit what the recipe needs."""


class TornForward(HostError):
    """An earlier forward stopped in the middle, so the layers disagree on what they have seen."""


class StoreFailure(HostError):
    """A store's folder, server or service cannot be reached, read or written."""


class TierLost(HostError):
    """Entries in a slow tier cannot be written, or can no longer be read."""


class InputError(KeyvaliseError, ValueError):
    """A user's document, file, tensor or option cannot be used."""


class AssetError(InputError):
    """A profile or a trained part is missing, damaged, or made for another model."""


class DamagedStream(InputError):
    """Bytes of a bitstream that were changed, cut off, or never were one."""


class StoreError(InputError):
    """A store's address is not understood, or what is asked of it or put into it cannot be served."""


class NoRoom(InputError):
    """A slow tier may not hold what is put into it."""


class CacheFileError(InputError):
    """A stored cache cannot be read or written."""


class Damaged(CacheFileError):
    """The bytes of a stored cache are not what was written."""


class FutureVersion(CacheFileError):
    """A stored cache was written by a later version."""


class OtherModel(CacheFileError):
    """A stored cache was made with another model, tokenizer or asset."""
