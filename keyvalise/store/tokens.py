"""Whole tokens in code, all heads together, each layer building on how the one below is read.

Knows the codec only by its protocol. Every head of a row holds the same tokens, and every layer the same as
the others; what the layer below has read or written in the same call lies in the call's scratch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend, rope
from keyvalise.store import flat, shared
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.types.code import Chained
from keyvalise.types.data import Entries, Env, Memory, Partial, Queries, Stretch
from keyvalise.types.scratch import Scratch
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Tokens:
    """Codes of tokens grouped by row; `places` has one head."""

    codec: Chained
    env: Env
    places: Places
    codes: Mapping[str, Tensor]

    kind: ClassVar[str] = "tokens"
    frozen: ClassVar[bool] = False

    @staticmethod
    def of(codec: Chained, env: Env, run: flat.Flat, stretch: Stretch, scratch: Scratch) -> Tokens:
        """Encode a run whose heads hold the same tokens, as the layer below did with the same stretch."""
        n_rows, n_heads = run.shape
        counts = run.counts[::n_heads]
        order = _by_token(counts, n_heads, run.keys.device)
        ordinals = run.ordinals[order[:, 0]]
        keys, values = run.keys[order].float(), run.values[order].float()
        if env.rope is not None:
            keys = rope.unrotate(keys, ordinals[:, None], env.rope)
        below = scratch.written.get(stretch) if env.layer else None
        codes = codec.write(env, keys, values, below)
        scratch.written[stretch] = codec.read(env, codes, below)
        return Tokens(codec, env, Places.of(ordinals, counts, (n_rows, 1)), codes)

    @property
    def shape(self) -> tuple[int, int]:
        return self.places.shape[0], self.env.geometry.n_kv_heads

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(n for n in self.places.counts for _ in range(self.shape[1]))

    @property
    def device(self) -> torch.device:
        return next(iter(self.codes.values())).device

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.counts, dtype=torch.int32, device=self.device).view(self.shape)

    def attend(self, queries: Queries) -> tuple[Partial, Tokens]:
        """Reads all of it at once: the layer above needs it whole."""
        scratch, stretch = queries.scratch, queries.stretch
        assert scratch is not None, "codes of layers are read in a call"
        below = scratch.read.get(stretch) if self.env.layer else None
        held = scratch.read[stretch] = self.codec.read(self.env, self.codes, below)
        keys, values = held
        if self.env.rope is not None:
            keys = rope.apply(keys, self.places.all()[:, None], self.env.rope)
        out, lse = attend.empty(queries.q, self.env.geometry.value_dim)
        for row, (begin, end) in enumerate(itertools.pairwise(flat.bounds_of(self.places.counts))):
            k, v = (x[begin:end].transpose(0, 1)[None] for x in (keys, values))
            part = attend.dense(
                queries.q[row : row + 1].float(), k, v, scale=queries.scale, softcap=queries.softcap
            )
            out[row], lse[row] = part[0][0], part[1][0]
        return Partial(out, lse), self

    def entries(self) -> Entries:
        index, live = flat.padded_index(flat.bounds_of(self.places.counts), self.places.shape, self.device)
        ordinals = self.places.all()[index].masked_fill(~live, -1)
        shape = (*self.shape, live.shape[-1])

        def refuse() -> Tensor:
            raise RuntimeError("keys and values of a layer that builds on others are read in a call alone")

        return Entries(self.lengths, live.expand(shape), ordinals.expand(shape), None, {}, refuse, refuse)

    def raw(self, held: tuple[Tensor, Tensor]) -> Ragged:
        """As raw entries; held: keys [N, H, D] before their rotation and values, as the codec reads them."""
        keys, values, ordinals = *held, self.places.all()
        if self.env.rope is not None:
            keys = rope.apply(keys, ordinals[:, None], self.env.rope)
        rows = [slice(*edge) for edge in itertools.pairwise(flat.bounds_of(self.places.counts))]
        keys, values = (
            torch.cat([x[row].transpose(0, 1).flatten(0, 1) for row in rows]).to(self.env.geometry.dtype)
            for x in (keys, values)
        )
        places = torch.cat([ordinals[row].repeat(self.shape[1]) for row in rows])
        return Ragged.of(flat.Flat(self.shape, self.counts, keys, values, places, None, {}))

    def take(self, keep: Tensor) -> Tokens | None:
        """The tokens where keep [B, H, T] is true, in all heads alike."""
        if not bool(keep.any()):
            return None
        index, live = flat.padded_index(flat.bounds_of(self.places.counts), self.places.shape, self.device)
        mine = keep[:, :1]
        if bool((mine == live).all()):
            return self
        return self._picked(index[mine], tuple(mine.sum(-1).flatten().tolist()), self.places.shape)

    def _picked(self, order: Tensor, counts: tuple[int, ...], shape: tuple[int, int]) -> Tokens:
        codes = {name: tensor[order] for name, tensor in self.codes.items()}
        return replace(self, places=Places.of(self.places.all()[order], counts, shape), codes=codes)

    def with_columns(self, columns: Mapping[str, Tensor]) -> Tokens:
        assert not columns, "what needs columns is refused when the recipe is built"
        return self

    def rows(self, index: Tensor) -> Tokens:
        edges, rows = flat.bounds_of(self.places.counts), index.tolist()
        order = [torch.arange(edges[row], edges[row + 1], device=self.device) for row in rows]
        counts = tuple(self.places.counts[row] for row in rows)
        return self._picked(torch.cat(order), counts, (len(rows), 1))

    def tensors(self) -> Iterable[Named]:
        tier = self.device.type
        for name, tensor in self.codes.items():
            yield ("scales" if name.startswith("scale") else "codes"), tier, tensor
        yield from self.places.tensors()


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Later tokens behind earlier ones in every row."""
    if len(parts) == 1:
        return parts[0]
    order = flat.regroup([part.places.counts for part in parts], parts[0].device)
    ordinals = torch.cat([part.places.all() for part in parts])[order]
    counts = tuple(sum(row) for row in zip(*(part.places.counts for part in parts), strict=True))
    codes = {name: torch.cat([part.codes[name] for part in parts])[order] for name in parts[0].codes}
    return replace(parts[0], places=Places.of(ordinals, counts, parts[0].places.shape), codes=codes)


def laid_open(memories: Mapping[int, Memory]) -> dict[int, Memory]:
    """layer → memory of all layers: rows have their own entries, and those that tokens in code stand for."""
    below, found = None, {}
    for layer, memory in sorted(memories.items()):
        memory, segments = shared.apart(memory), []
        for segment in memory.segments:
            if isinstance(segment, Tokens):
                below = segment.codec.read(segment.env, segment.codes, below)
                segment = segment.raw(below)
            segments.append(segment)
        found[layer] = replace(memory, segments=tuple(segments))
    return found


def _by_token(counts: Sequence[int], n_heads: int, device: torch.device) -> Tensor:
    """int64 [N, H]: where a flat run by (row, head) holds every token's heads."""
    found, begin = [], 0
    for n in counts:
        found.append(begin + torch.arange(n_heads * n, device=device).view(n_heads, n).T)
        begin += n_heads * n
    return torch.cat(found)
