"""A code or transform on plain rows: fitted, written and read as one head's, or as several heads'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.code import Codes, Fitted, Where
from keyvalise.types.data import Env


def encode(code: Any, env: Env, keys: Tensor, values: Tensor, where: Where | None = None) -> Codes:
    """The codes of rows, by default one head's, with what its home is fitted to."""
    where = where or Where.alone(len(keys))
    n_homes = int(where.homes.max()) + 1 if len(keys) else 1
    home = code.fit(env, keys, values, where, n_homes) if isinstance(code, Fitted) else {}
    return replace(code.encode(env, keys, values, where, home), home=home)


def decode(
    code: Any, env: Env, codes: Codes, dtype: torch.dtype, group_of: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rows of one head again."""
    n = len(next(iter(codes.entry.values())))
    return code.decode(env, codes, Where.alone(n, group_of), dtype)


def again(code: Any, env: Env, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The rows as they come back, in float32."""
    return decode(code, env, encode(code, env, keys, values), torch.float32)
