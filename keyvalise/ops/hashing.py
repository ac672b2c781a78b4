"""Counter-based randomness: a draw is a hash of coordinates, so there is no state to store or replay."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env


def _signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    return word - 2**64 if word >= 2**63 else word


# Increment and multipliers of the splitmix64 generator.
_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def uniform(seed: int, part: str, layer: int, heads: Tensor, ordinals: Tensor) -> Tensor:
    """One draw in [0, 1) per entry, equal on every device, whatever the batch row, length and padding.

    Shapes   heads int [H], ordinals int [B, H, T] → float64 [B, H, T]
    Formula  u = mix(mix(key + (head + 1)·c) + (ordinal + 1)·c) / 2^64, cut to 53 bits; mix is the splitmix64
             finalizer, c its increment, key a digest of (seed, part, layer)
    Cost     H·T time; three int64 temporaries of B·H·T
    """
    per_head = _mix((heads.long() + 1) * _STEP + _key(seed, part, layer))
    words = _mix((ordinals.long() + 1) * _STEP + per_head[:, None])
    return _logical_shift(words, 11).double() * 2.0**-53


def per_entry(env: Env, part: str, entries: Entries) -> Tensor:
    """The draw of every entry of a layer: float64 [B, H, T]; dead slots get some draw as well."""
    heads = torch.arange(entries.ordinals.shape[1], device=entries.ordinals.device)
    return uniform(env.seed, part, env.layer, heads, entries.ordinals)


def per_pair(env: Env, part: str, heads: Tensor, queries: Tensor, entries: Tensor) -> Tensor:
    """One draw in (0, 1) per query head, query and entry of a layer; neither end is ever drawn.

    Shapes   query heads int [H, G], ordinals of queries int [B, S] and of entries int [B, H, T]
             → float32 [B, H, G, S, T]
    Formula  u = (mix(mix(mix(key + (head + 1)·c) + (query + 1)·c) + (entry + 1)·c) / 2^64, cut to 23 bits,
             + 2^−24)
    Cost     Hq·S·T time; three int64 temporaries of the result's size
    """
    per_head = _mix((heads.long() + 1) * _STEP + _key(env.seed, part, env.layer))
    per_query = _mix((queries.long()[:, None, None] + 1) * _STEP + per_head[:, :, None])
    words = _mix((entries.long()[:, :, None, None] + 1) * _STEP + per_query[..., None])
    return (_logical_shift(words, 41).float() + 0.5) * 2.0**-23


def _key(seed: int, part: str, layer: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{part}|{layer}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _mix(words: Tensor) -> Tensor:
    words = (words ^ _logical_shift(words, 30)) * _FIRST
    words = (words ^ _logical_shift(words, 27)) * _SECOND
    return words ^ _logical_shift(words, 31)


def _logical_shift(words: Tensor, n: int) -> Tensor:
    """A right shift that brings zeros in; torch's own repeats the sign bit."""
    return (words >> n) & ((1 << (64 - n)) - 1)
