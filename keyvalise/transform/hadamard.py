"""Channels mixed with signs, so that none stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import hadamard
from keyvalise.types.code import Back, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class HadamardTransform:
    """Keys and values times the orthonormal Hadamard matrix: what one loud channel held, all channels share.

    Shapes     keys [N, D], values [N, Dv] → the same
    Formula    x' = x·H, H the Sylvester matrix over √n; a head of another size than a power of two falls into
               blocks, the largest power of two first (96 = 64 + 32)
    Cost       N·D·log D time each way; no bytes
    Phase      around every writing and reading of the code behind it
    Reduces to itself: H·H = 1
    Paper      none: Sylvester 1867; in codes for caches since QuaRot (Ashkboos et al. 2024, arXiv 2404.00456)
    """

    name: ClassVar[str] = "hadamard"
    room: ClassVar[str] = "transform"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side | None] = None

    def shape(self, geometry: Geometry) -> Geometry:
        return geometry

    def forward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        return hadamard.rotate(keys), hadamard.rotate(values)

    def backward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        return hadamard.rotate(keys), hadamard.rotate(values)

    def ways_back(self, env: Env, home: Home) -> tuple[Back, Back]:
        dims = env.geometry.key_dim, env.geometry.value_dim
        of_keys, of_values = (Back(hadamard.matrix(dim)[None, None]) for dim in dims)
        return of_keys, of_values
