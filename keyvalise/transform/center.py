"""Every head's mean taken away, once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.types.argument import rope_side
from keyvalise.types.code import Back, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class CenterTransform:
    """Keys and values less the mean of their head's first coded entries.

    Shapes     keys [N, D], values [N, Dv] → the same; home tensors: "keys" float16 [B·H, D],
               "values" likewise
    Formula    x' = x − μ, μ = mean of the entries that are coded first
    Units      side: whether the mean is of keys before the rotary embedding, or as they are stored
    Cost       2·(D + Dv) bytes per (row, head); N·D time each way
    Phase      the mean is found when a head's first entries are coded, and stays
    Reduces to the numbers themselves where the mean is zero, up to float16
    Raises     UnmetNeed for side=pre on a model whose rotary angles change with length
    Differs    from LVQ: the mean is of a head's own first entries, not of a training set
    Paper      Aguerrebere et al. 2023, arXiv 2304.04759            Confidence  old official source
    """

    of: str = rope_side("pre")

    name: ClassVar[str] = "center"
    room: ClassVar[str] = "transform"
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"keys", "values"} | ({"rope:static"} if self.of == "pre" else set()))

    @property
    def side(self) -> Side:
        return "pre" if self.of == "pre" else "post"

    def shape(self, geometry: Geometry) -> Geometry:
        return geometry

    def home_bytes(self, geometry: Geometry) -> int:
        return 2 * (geometry.key_dim + geometry.value_dim)

    def fit(self, env: Env, keys: Tensor, values: Tensor, where: Where, n_homes: int) -> dict[str, Tensor]:
        return {"keys": _means(keys, where, n_homes), "values": _means(values, where, n_homes)}

    def forward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        return keys - home["keys"].float()[where.homes], values - home["values"].float()[where.homes]

    def backward(
        self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home
    ) -> tuple[Tensor, Tensor]:
        return keys + home["keys"].float()[where.homes], values + home["values"].float()[where.homes]

    def ways_back(self, env: Env, home: Home) -> tuple[Back, Back]:
        n_heads = env.geometry.n_kv_heads
        of_keys, of_values = (home[name].float().unflatten(0, (-1, n_heads)) for name in ("keys", "values"))
        return Back(mean=of_keys), Back(mean=of_values)


def _means(x: Tensor, where: Where, n_homes: int) -> Tensor:
    """float16 [n_homes, D]; zeros where nothing is."""
    total = torch.zeros(n_homes, x.shape[1], device=x.device).index_add(0, where.homes, x.float())
    count = torch.bincount(where.homes, minlength=n_homes).clamp(min=1)
    limit = torch.finfo(torch.float16).max
    return (total / count[:, None]).clamp(-limit, limit).half()
