"""Keys by what queries see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import project
from keyvalise.types.argument import arg, asset
from keyvalise.types.code import Back, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount, Share


@dataclass(frozen=True, slots=True)
class LeanTransform:
    """Keys in the few directions in which queries of this head tell them apart, as learned from both.

    Shapes     keys [N, D] → [N, r], values [N, Dv] → [N, r_v]; asset: "of_queries", "of_keys" float32
               [L, H, D, R], "keys_mean" float32 [L, H, D], "values_basis" [L, H, Dv, Dv], "values_mean"
    Formula    k' = Bᵀ(k − μ),  back k̂ = A·k' + μ, so that qᵀk̂ = (Aᵀq)ᵀ(Bᵀ(k − μ)) + qᵀμ comes nearest to
               qᵀk: A, B minimize E(qᵀA·Bᵀk − qᵀk)² over the group's queries and the head's keys, see
               ops.project
    Units      rank: numbers of a key, or a share of the head; values: of a value, 100% leaves them as they
               are solver=frank_wolfe: the published iteration, for one rank; closed: the optimum, for every
               rank
    Cost       4·(2·D·R + Dv² + D + Dv) fixed bytes per layer and kv head; N·D·r time each way
    Needs      projections of this model; keys as they are stored, for which they were learned
    Phase      around every writing and reading of the code behind it
    Reduces to keys as they are at full rank; to principal components where queries see all directions alike
    Raises     BadArgument for a rank above the head; AssetError for projections that are missing or were made
               with another solver, or with frank_wolfe for another rank
    Differs    the scan by short vectors and its second pass over long ones are a reader's business: here the
               short ones are all that is kept. The size of a direction stands on the side of the keys, so
               that an equal error of any number costs every query the same; the optimum is found in closed
               form. μ is added back, as other entries of the layer hold it
    Paper      Tepper et al. 2023, arXiv 2312.16335            Confidence  old official source
    """

    rank: Amount = arg(Share(50), low=1, doc="numbers of a key, or a share of the head")
    values: Amount = arg(Share(100), low=1, doc="numbers of a value, or a share of the head")
    solver: str = arg("closed", choices=("closed", "frank_wolfe"), doc="how the projections are learned")
    projections: str = asset("lean", doc="projections of every layer and kv head", kind="lean")

    name: ClassVar[str] = "lean"
    room: ClassVar[str] = "transform"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side | None] = "post"

    @property
    def asked_for(self) -> Mapping[str, int | float | bool | str]:
        own_rank = {} if self.solver == "closed" else {"rank": str(self.rank)}
        return {"solver": self.solver, **own_rank}

    def shape(self, geometry: Geometry) -> Geometry:
        key_dim = project.rank(self.rank, geometry.key_dim, "rank")
        value_dim = project.rank(self.values, geometry.value_dim, "values")
        return replace(geometry, key_dim=key_dim, value_dim=value_dim)

    def forward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        of_keys, of_values = self._maps(env)
        values = values if of_values is None else of_values.down(values, where.heads)
        return of_keys.down(keys, where.heads), values

    def backward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        of_keys, of_values = self._maps(env)
        values = values if of_values is None else of_values.up(values, where.heads)
        return of_keys.up(keys, where.heads), values

    def ways_back(self, env: Env, home: Home) -> tuple[Back, Back]:
        of_keys, of_values = self._maps(env)
        return of_keys.way, Back() if of_values is None else of_values.way

    def _maps(self, env: Env) -> tuple[project.Map, project.Map | None]:
        held, inner, layer = env.fixed[self.projections], self.shape(env.geometry), env.layer
        into, back = (held[n][layer, ..., : inner.key_dim] for n in ("of_keys", "of_queries"))
        of_keys = project.Map(into, back, held["keys_mean"][layer])
        if inner.value_dim == env.geometry.value_dim:
            return of_keys, None
        basis = held["values_basis"][layer, ..., : inner.value_dim]
        return of_keys, project.Map(basis, basis, held["values_mean"][layer])
