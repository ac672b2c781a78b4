"""Attention over integers where they lie, on a device, against what the code says they are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.encode.grouped import Int4Encode
from keyvalise.encode.kivi import KiviEncode
from keyvalise.ops import affine, attend
from keyvalise.ops.fast.gpu import decode
from keyvalise.types.code import Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Integers
from tests.differential.test_gpu_start import DEVICES, ready
from tests.support.decoding import agree, expected

on_each = pytest.mark.parametrize("device", DEVICES)


def written(n: int, dim: int, bits: int, channels: int) -> tuple[Integers, torch.Tensor]:
    """n entries, and what they are read as."""
    packed, scales = affine.encode_rows(3 * torch.randn(n, dim) + 1, bits, channels)
    return Integers(packed, scales, bits, dim), affine.decode_rows(packed, scales, bits, dim)


def moved(side: Integers, to: torch.device) -> Integers:
    """The same integers elsewhere."""
    row_of = None if side.row_of is None else side.row_of.to(to)
    return replace(side, codes=side.codes.to(to), scales=side.scales.to(to), row_of=row_of)


@on_each
@pytest.mark.parametrize(
    ("group", "bits", "dims", "channels"),
    [
        (1, (8, 8), (32, 32), 32),
        (2, (4, 4), (128, 64), 64),
        (4, (2, 2), (64, 128), 16),
        (8, (2, 2), (16, 32), 16),
        (1, (4, 2), (20, 33), 24),
        (8, (8, 4), (7, 80), 8),
        (4, (2, 8), (80, 20), 80),
        (2, (1, 2), (17, 16), 5),
        (4, (4, 4), (128, 128), 128),
    ],
)
def test_each_side_may_be_written_in_its_own_way(
    device: str, group: int, bits: tuple[int, int], dims: tuple[int, int], channels: int
) -> None:
    to = ready(device)
    torch.manual_seed(group)
    counts = [63, 0, 7, 1]
    (keys, k), (values, v) = (
        written(sum(counts), dim, size, channels) for dim, size in zip(dims, bits, strict=True)
    )
    q, logw = torch.randn(2, 2 * group, 1, dims[0]), torch.randn(sum(counts))
    bounds = list(itertools.accumulate(counts, initial=0))
    got = decode.coded(
        q.to(to),
        moved(keys, to),
        moved(values, to),
        offsets=torch.tensor(bounds),
        logw=logw.to(to),
        scale=0.21,
        softcap=5.0,
    )
    runs = [(k[a:b], v[a:b], logw[a:b]) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q, runs, softcap=5.0))


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_what_is_read_is_what_is_decoded(data: st.DataObject) -> None:
    ready("cpu")
    code = data.draw(
        st.sampled_from([KiviEncode(bits=2, group=8), KiviEncode(bits=8, group=8), Int4Encode()])
    )
    dims = data.draw(st.sampled_from([(32, 32), (24, 40)]))
    counts = [n * code.group for n in data.draw(st.lists(st.integers(0, 9), min_size=2, max_size=2))]
    n_queries, n = data.draw(st.integers(1, 3)), sum(counts)
    torch.manual_seed(n)
    env = Env(0, Geometry(1, 4, 2, *dims, torch.float32, dims[0] ** -0.5))
    codes = code.encode(env, *(3 * torch.randn(n, dim) + 1 for dim in dims), Where.alone(n), {})
    group_of = None
    if code.group > 1 and data.draw(st.booleans()):
        # Entries find their group by number; here each of another entry of the same group.
        group_of = torch.arange(n, dtype=torch.int32) // code.group
    keys, values = code.decode(env, codes, Where.alone(n), torch.float32)
    bounds = list(itertools.accumulate(counts, initial=0))
    sides, q = code.integers(env, codes, group_of), torch.randn(1, 4, n_queries, dims[0])
    got = decode.coded(q, *sides, offsets=torch.tensor(bounds), scale=0.21)
    runs = [(keys[a:b], values[a:b], torch.zeros(b - a)) for a, b in itertools.pairwise(bounds)]
    agree(got, expected(q, runs))


@on_each
def test_entries_that_left_their_group_find_it_by_number(device: str) -> None:
    to = ready(device)
    scales = torch.randn(5, 32, 2).half()
    codes = torch.randint(0, 256, (63, 8), dtype=torch.uint8)
    row_of = torch.randint(0, 5, (63,), dtype=torch.int32)
    side = Integers(codes, scales, 2, 32, 8, row_of)
    planes = torch.cat([(codes >> (2 * plane)) & 3 for plane in range(4)], 1).float()
    x = scales[row_of.long(), :, 1].float() + scales[row_of.long(), :, 0].float() * planes
    q, one = torch.randn(1, 2, 1, 32), moved(side, to)
    got = decode.coded(q.to(to), one, one, offsets=torch.tensor([0, 63]), scale=0.21)
    agree(got, expected(q, [(x, x, torch.zeros(63))]))


@on_each
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_an_integer_stands_for(device: str, bits: int) -> None:
    to = ready(device)
    x = torch.tensor([[-65504.0, 65504.0, 0.25, -1e-4] * 8, [7.0] * 32, [0.0] * 31 + [1.0]])
    packed, scales = affine.encode_rows(x, bits, 16)
    read = affine.decode_rows(packed, scales, bits, 32)
    zero, _ = written(1, 32, bits, 32)
    for i in range(3):
        one = Integers(packed[i : i + 1], scales[i : i + 1].contiguous(), bits, 32)
        out, _ = decode.coded(
            torch.zeros(1, 1, 1, 32, device=to),
            moved(zero, to),
            moved(one, to),
            offsets=torch.tensor([0, 1]),
            scale=1.0,
        )
        agree((out[0, 0, 0], out[0, 0, 0]), (read[i], read[i]))


@on_each
def test_poison_behind_the_runs_is_not_read(device: str) -> None:
    to = ready(device)
    keys, k = written(40, 32, 4, 16)
    values, v = written(40, 32, 4, 16)
    for side in (keys, values):
        side.scales[30:] = torch.nan
    q, bounds = torch.randn(1, 4, 1, 32), [0, 23, 30]
    got = decode.coded(q.to(to), moved(keys, to), moved(values, to), offsets=torch.tensor(bounds), scale=0.21)
    want = attend.ragged(q, k[:30], v[:30], bounds=bounds, scale=0.21)
    agree(got, want)
