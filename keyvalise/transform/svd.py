"""Keys and values by their strongest directions alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import project
from keyvalise.types.argument import arg, asset, rope_side
from keyvalise.types.code import Back, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount, Share


@dataclass(frozen=True, slots=True)
class SvdTransform:
    """What is left of keys and values in the first directions of a basis that was found for every head.

    Shapes     keys [N, D] → [N, r], values [N, Dv] → [N, r_v]; asset: "keys_basis" float32 [L, H, D, D] with
               the strongest direction first, "keys_mean" float32 [L, H, D], of values likewise
    Formula    x' = (x − μ)·B,  back x'·Bᵀ + μ,  B the first r eigenvectors of the covariance of x
    Units      rank, values: numbers that are kept of a key and of a value, or a share of the head;
               side: whether keys are taken before the rotary embedding, or as they are stored
    Cost       4·(D² + Dv² + D + Dv) fixed bytes per layer and kv head; N·D·r time each way
    Needs      a basis of this model, made on the same side; it serves every rank
    Phase      around every writing and reading of the code behind it
    Reduces to a rotation at full rank, exact up to rounding
    Raises     BadArgument for a rank above the head; UnmetNeed for side=pre where angles change with length;
               AssetError for a basis that is missing or was made on the other side
    Paper      none: the Karhunen-Loève transform
    """

    rank: Amount = arg(Share(50), low=1, doc="numbers of a key, or a share of the head")
    values: Amount = arg(Share(50), low=1, doc="numbers of a value, or a share of the head")
    of: str = rope_side("post")
    basis: str = asset("svd", doc="means and directions of every layer and kv head", kind="basis")

    name: ClassVar[str] = "svd"
    room: ClassVar[str] = "transform"
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"keys", "values"} | ({"rope:static"} if self.of == "pre" else set()))

    @property
    def side(self) -> Side:
        return "pre" if self.of == "pre" else "post"

    @property
    def asked_for(self) -> Mapping[str, int | float | bool | str]:
        return {"side": self.of}

    def shape(self, geometry: Geometry) -> Geometry:
        key_dim = project.rank(self.rank, geometry.key_dim, "rank")
        value_dim = project.rank(self.values, geometry.value_dim, "values")
        return replace(geometry, key_dim=key_dim, value_dim=value_dim)

    def forward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        of_keys, of_values = self._maps(env)
        return of_keys.down(keys, where.heads), of_values.down(values, where.heads)

    def backward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        of_keys, of_values = self._maps(env)
        return of_keys.up(keys, where.heads), of_values.up(values, where.heads)

    def ways_back(self, env: Env, home: Home) -> tuple[Back, Back]:
        of_keys, of_values = self._maps(env)
        return of_keys.way, of_values.way

    def _maps(self, env: Env) -> tuple[project.Map, project.Map]:
        held, inner = env.fixed[self.basis], self.shape(env.geometry)

        def of(name: str, rank: int) -> project.Map:
            basis = held[f"{name}_basis"][env.layer, ..., :rank]
            return project.Map(basis, basis, held[f"{name}_mean"][env.layer])

        return of("keys", inner.key_dim), of("values", inner.value_dim)
