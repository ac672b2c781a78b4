"""Any tensors, bit for bit, and no larger than they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keyvalise.store import stream
from keyvalise.store.stream import plain, rows, short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream, InputError

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(), (0,), (7,), (0, 5), (5, 0), (63, 7), (3, 130, 2)]


@pytest.mark.parametrize("dtype", [*DTYPES, *FLOATS])
def test_tensors_come_back(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for i, shape in enumerate(SHAPES):
        x = 40 * torch.randn(shape, generator=generator)
        tensors[f"{i}"] = x > 0 if dtype is torch.bool else x.to(dtype)
    if dtype in FLOATS:
        tensors["odd"] = torch.tensor([torch.nan, -0.0, torch.inf, -torch.inf, 1e-40], dtype=dtype)
    found = stream.read_arrays(stream.write_arrays(tensors))
    assert list(found) == list(tensors)
    for name, x in tensors.items():
        assert found[name].dtype is x.dtype and found[name].shape == x.shape
        assert (
            found[name].numpy(force=True).tobytes() == x.numpy().tobytes()
            if dtype is not torch.bfloat16
            else True
        )
        assert torch.equal(found[name].nan_to_num(9), x.nan_to_num(9))


def nbytes(x: np.ndarray) -> int:
    out = Writer()
    plain.write(out, x)
    assert np.array_equal(plain.read(Reader(bytes(out.data)), x.shape, x.dtype), x)
    return len(out.data)


def test_structure_pays() -> None:
    rng = np.random.default_rng(0)
    assert nbytes(np.arange(5, 7005, dtype=np.int32)) < 12
    assert nbytes(np.full((630, 7), -5, np.int16)) < 60
    ascending = np.cumsum(rng.integers(1, 9, (4, 700)), 1).astype(np.int32)
    assert nbytes(ascending) < 0.35 * ascending.nbytes
    few = rng.choice(10**9, 300)[rng.zipf(1.6, 4000).clip(1, 300) - 1].astype(np.int32)
    assert nbytes(few) < 0.25 * few.nbytes
    by_column = (rng.normal(size=(900, 7)) * 4 + 30 * np.arange(7)).astype(np.uint8)
    assert nbytes(by_column) < 0.62 * by_column.nbytes
    walk = rng.binomial(4, 0.5, (900, 7)).cumsum(0).astype(np.uint8)
    assert nbytes(walk) < 0.4 * walk.nbytes
    halves = rng.binomial(15, 0.5, (900, 16)) | rng.binomial(15, 0.5, (900, 16)) << 4
    assert nbytes(halves.astype(np.uint8)) < 0.8 * halves.size


def test_noise_costs_nothing_extra() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (63, 70), dtype=np.uint8)
    assert nbytes(noise) <= noise.nbytes + 8


def test_a_dtype_that_no_stream_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        stream.write_arrays({"x": torch.zeros(3, dtype=torch.complex64)})


def test_short_rows_come_back() -> None:
    rng = np.random.default_rng(2)
    given = [
        rng.integers(-9, 10, 7),
        np.zeros(0, np.int64),
        rng.integers(-(10**6), 10**6, 63),
        np.full(130, 10**9),
    ]
    out = Writer()
    short.write(out, given)
    source = Reader(bytes(out.data))
    found = short.read(source, [len(one) for one in given])
    source.finish()
    assert all(np.array_equal(a, b) for a, b in zip(found, given, strict=True))


@pytest.mark.parametrize("has_groups", [False, True])
def test_sources_come_back(has_groups: bool) -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 20, 130)
    groups = np.array([list(ids).index(one) for one in ids])
    keys = np.where(rng.random(130) < 0.9, groups, np.arange(130))
    for values in (keys, groups, np.arange(130)):
        data = rows.write([keys, values], groups if has_groups else None)
        found = rows.read(data, 130, groups if has_groups else None)
        assert np.array_equal(found[0], keys) and np.array_equal(found[1], values)
    assert not has_groups or len(rows.write([groups, groups], groups)) < 12


def test_leaders_of_a_run_lie_in_it() -> None:
    source = np.array([0, 1, 0, 1, 0, 5, 1])
    assert rows.within(source[3:]).tolist() == [0, 1, 2, 0]


def test_numbers_that_do_not_end_are_noticed() -> None:
    for data in (b"", b"\xff", b"\xff" * 9):
        with pytest.raises(DamagedStream):
            Reader(data).number()
    with pytest.raises(DamagedStream, match="at most 6"):
        Reader(b"\x07").number(6)
    with pytest.raises(DamagedStream, match="belong to nothing"):
        Reader(b"\x07").finish()
