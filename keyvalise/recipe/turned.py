"""A code behind transforms: what it is given has been turned, centred or projected before, and is turned back
when it is read.

Knows codes and transforms by their protocols only; any of them composes with any other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from keyvalise.ops import fold
from keyvalise.types.code import Affine, Code, Codes, Encode, Fitted, Folded, Home, Side, Transform, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import UnmetNeed
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True)
class Turned:
    """The transforms in the order in which keys and values pass through them, then the code."""

    transforms: tuple[Transform, ...]
    code: Encode

    room: ClassVar[str] = "encode"

    @property
    def parts(self) -> tuple[Any, ...]:
        return (*self.transforms, self.code)

    @property
    def name(self) -> str:
        return " > ".join(part.name for part in self.parts)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def gives(self) -> frozenset[str]:
        return frozenset().union(*(part.gives for part in self.parts))

    @property
    def takes(self) -> frozenset[str]:
        return frozenset().union(*(part.takes for part in self.parts))

    @property
    def group(self) -> int:
        return self.code.group

    @property
    def residual(self) -> int:
        return self.code.residual

    @property
    def side(self) -> Side:
        """Before the rotary embedding where any of them wants to stand there."""
        return "pre" if any(part.side == "pre" for part in self.parts) else "post"

    def check(self, geometry: Geometry) -> None:
        behind = [part.name for part in self.transforms if part.side == "post"]
        before = [part.name for part in self.parts if part.side == "pre"]
        if behind and before:
            raise UnmetNeed(
                f"{behind[0]} needs keys as they are stored, {before[0]} needs keys before their rotation"
            )
        self.code.check(self._shape(geometry))

    def bytes_per_entry(self, geometry: Geometry) -> float:
        return self.code.bytes_per_entry(self._shape(geometry))

    def group_bytes(self, geometry: Geometry) -> int:
        return self.code.group_bytes(self._shape(geometry))

    def home_bytes(self, geometry: Geometry) -> int:
        total = 0
        for part in self.parts:
            total += part.home_bytes(geometry) if isinstance(part, Fitted) else 0
            geometry = part.shape(geometry) if part is not self.code else geometry
        return total

    def fit(self, env: Env, keys: Tensor, values: Tensor, where: Where, n_homes: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        keys, values = keys.float(), values.float()
        for part, inner in zip(self.parts, self._envs(env), strict=True):
            own = part.fit(inner, keys, values, where, n_homes) if isinstance(part, Fitted) else {}
            found |= {f"{part.name}.{name}": tensor for name, tensor in own.items()}
            if part is not self.code:
                keys, values = part.forward(inner, keys, values, where, own)
        return found

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        keys, values = keys.float(), values.float()
        *outer, inner = self._envs(env)
        for part, at in zip(self.transforms, outer, strict=True):
            keys, values = part.forward(at, keys, values, where, _own(part, home))
        return self.code.encode(inner, keys, values, where, _own(self.code, home))

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        *outer, inner = self._envs(env)
        plain = replace(codes, home=_own(self.code, codes.home))
        keys, values = self.code.decode(inner, plain, where, torch.float32)
        for part, at in zip(reversed(self.transforms), reversed(outer), strict=True):
            keys, values = part.backward(at, keys, values, where, _own(part, codes.home))
        return keys.to(dtype), values.to(dtype)

    @functools.cached_property
    def _is_foldable(self) -> bool:
        return self.side == "post" and all(isinstance(part, Affine) for part in self.transforms)

    def fold(self, env: Env, q: Tensor, home: Home) -> Folded | None:
        """Every transform's way back goes to the queries on the way in, and to the answers on the way out."""
        if not self._is_foldable:
            return None
        *outer, inner = self._envs(env)
        ways = [
            cast(Affine, part).ways_back(at, _own(part, home))
            for part, at in zip(self.transforms, outer, strict=True)
        ]
        shift: Tensor | None = None
        q = q.float()
        for of_keys, _ in ways:
            if of_keys.mean is not None:
                more = fold.dots(q, of_keys.mean)
                shift = more if shift is None else shift + more
            q = q if of_keys.map is None else fold.times(q, of_keys.map)

        def back(out: Tensor) -> Tensor:
            for _, of_values in reversed(ways):
                out = out if of_values.map is None else fold.times(out, of_values.map.mT)
                out = out if of_values.mean is None else fold.plus(out, of_values.mean)
            return out

        return Folded(self.code, inner, q, shift, back)

    def _shape(self, geometry: Geometry) -> Geometry:
        for part in self.transforms:
            geometry = part.shape(geometry)
        return geometry

    def _envs(self, env: Env) -> list[Env]:
        """What every part may know: the shapes of what it is given."""
        found = [env]
        for part in self.transforms:
            env = replace(env, geometry=part.shape(env.geometry))
            found.append(env)
        return found


def parts_of(code: Code) -> tuple[Any, ...]:
    """The parts that a code is written with: its transforms, then itself."""
    return code.parts if isinstance(code, Turned) else (code,)


def _own(part: Any, home: Home) -> dict[str, Tensor]:
    mark = f"{part.name}."
    return {name.removeprefix(mark): tensor for name, tensor in home.items() if name.startswith(mark)}
