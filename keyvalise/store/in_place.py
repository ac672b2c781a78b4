"""Coded entries that answer where they lie: integers and names of codewords are read by compiled attention,
and what transforms have done to them is asked of the queries and told to the answers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from keyvalise.ops import coded
from keyvalise.types.code import Encode, Folding
from keyvalise.types.data import Env, Queries
from keyvalise.types.written import Integral, Lexical, Sides

if TYPE_CHECKING:
    from keyvalise.store.coded import Coded

MOST_QUERIES = 64
"""Queries of a call up to which it may be worth while; for more, entries are decoded once."""

Answer = tuple[Tensor, Tensor]


def answer(
    held: Coded, queries: Queries, index: Tensor | None = None, bounds: Sequence[int] | None = None
) -> Answer | None:
    """out [B, Hq, S, Dv] and lse [B, Hq, S], float32; None where entries must be decoded.

    index, bounds   entries that answer, and the edges of every list of them; all of every kv head
    """
    q, codec = queries.q, held.codec
    if q.shape[2] > MOST_QUERIES or not coded.is_possible(q.device):
        return None
    told: dict[str, Any] = {"bounds": held.bounds if bounds is None else bounds}
    told |= {"index": index, "logw": held.logw, "scale": queries.scale, "softcap": queries.softcap}
    if _is_legible(codec):
        return _read(held, codec, held.env, q, told)
    if not _follows(type(codec), Folding):
        return None
    folded = cast(Folding, codec).fold(held.env, q, held.codes.home)
    if folded is None or not _is_legible(folded.code):
        return None
    # A soft cap bends what is shifted.
    if folded.shift is not None and queries.softcap is not None:
        return None
    found = _read(held, folded.code, folded.env, folded.q, told)
    if found is None:
        return None
    out, lse = found
    # A head without entries has nothing to turn back.
    out = folded.back(out).masked_fill_(torch.isneginf(lse)[..., None], 0)
    return out, lse if folded.shift is None else lse + queries.scale * folded.shift


def _read(held: Coded, code: Encode, env: Env, q: Tensor, told: Mapping[str, Any]) -> Answer | None:
    sides = _sides(held, code, env)
    return None if sides is None else coded.attend(q, *sides, **told)


def _sides(held: Coded, code: Encode, env: Env) -> Sides | None:
    """Keys and values as they are written, with what turns the keys."""
    if _follows(type(code), Integral):
        return cast(Integral, code).integers(env, held.codes, held.group_of)
    sides = cast(Lexical, code).named(env, held.codes)
    if sides is None or code.side == "post" or env.rope is None:
        return sides
    return replace(sides[0], turn=(held.places.all(), env.rope)), sides[1]


def _is_legible(code: Encode) -> bool:
    return _follows(type(code), Integral) or _follows(type(code), Lexical)


@functools.cache
def _follows(kind: type, protocol: type) -> bool:
    """Asked at every step of decoding, where finding out takes as long as answering."""
    return issubclass(kind, protocol)
