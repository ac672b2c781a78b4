"""The container: what goes in comes out to the bit, and whatever is changed is refused by name."""

from __future__ import annotations

import os
import random
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from keyvalise.store import file
from keyvalise.types.errors import CacheFileError, Damaged, FutureVersion, InputError
from tests.support.cachefiles import cut, retold

HEADER = {"recipe": "knorm @ 40%", "seen": 63, "more": {"a": [1, None, "é", True]}}


def parts(seed: int = 0, n: int = 6) -> dict[str, Tensor]:
    """Tensors of several dtypes, some empty, some alike in shape."""
    noise, found = torch.Generator().manual_seed(seed), {}
    for i in range(n):
        shape = torch.randint(0, 5, (i % 4,), generator=noise).tolist()
        bits = torch.randint(0, 256, (*shape, 8), dtype=torch.uint8, generator=noise)
        dtype = list(file.DTYPES.values())[(i + seed) % len(file.DTYPES)]
        found[f"part.{i}"] = bits > 127 if dtype is torch.bool else bits.view(dtype)
    found["one"] = torch.randn(7, 9, generator=noise)
    found["two"] = torch.randn(7, 9, generator=noise)
    return found


def packed(header: dict = HEADER, tensors: dict[str, Tensor] | None = None) -> bytes:
    return b"".join(file.chunks(header, parts() if tensors is None else tensors))


def same(a: Tensor, b: Tensor) -> bool:
    """Bits, dtype and shape."""
    is_alike = a.dtype == b.dtype and a.shape == b.shape
    return is_alike and bytes(file.raw(a)) == bytes(file.raw(b))


@pytest.mark.parametrize("seeds", [range(100), pytest.param(range(100, 1000), marks=pytest.mark.slow)])
def test_what_goes_in_comes_out_to_the_bit(seeds: range) -> None:
    for seed in seeds:
        tensors = parts(seed, seed % 13)
        stored = file.opened(packed(tensors=tensors))
        assert stored.places.keys() == tensors.keys()
        assert all(same(stored.read(name), tensor) for name, tensor in tensors.items())
        assert {name: stored.header[name] for name in HEADER} == HEADER


def test_others_can_read_it() -> None:
    tensors = {name: one for name, one in parts().items() if one.numel()}
    data = packed(tensors=tensors)
    found = safetensors.torch.load(data)
    assert all(same(found[name], tensor) for name, tensor in tensors.items())


def test_it_is_the_same_whatever_the_order_and_the_strides() -> None:
    tensors = parts()
    turned = {name: tensor.mT.contiguous().mT for name, tensor in tensors.items() if tensor.ndim > 1}
    backwards = dict(reversed((tensors | turned).items()))
    assert packed(tensors=backwards) == packed(tensors=tensors)


def test_parts_are_memory_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "x.kv"
    file.File(path).publish(file.chunks(HEADER, parts()))
    stored = file.Stored(file.open_uri(path).source())
    one = stored.read("one")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert same(one, parts()["one"]) and one.data_ptr() % 16 == 0
    with pytest.raises(Damaged, match="the part 'two' is not what was written"):
        stored.read("two")
    os.truncate(path, 100)
    with pytest.raises(Damaged, match=r"is cut off: .* bytes are missing"):
        stored.read("two")


def test_parts_that_are_held_are_handed_out_once() -> None:
    stored = file.opened(packed())
    stored.hold()
    first, second = stored.read("one"), stored.read("one")
    assert same(first, second) and first.data_ptr() != second.data_ptr()


def test_threads_may_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.kv"
    tensors = {str(i): torch.full((5000,), float(i)) for i in range(40)}
    file.File(path).publish(file.chunks({}, tensors))
    stored, wrong = file.Stored(file.open_uri(path).source()), []

    def work() -> None:
        wrong.extend(name for name in tensors if not same(stored.read(name), tensors[name]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def set_inner(name: str, value: object) -> Callable[[dict, dict], None]:
    return lambda inner, outer: inner.__setitem__(name, value)


def moved(inner: dict, outer: dict) -> None:
    outer["one"]["data_offsets"], outer["two"]["data_offsets"] = (
        outer["two"]["data_offsets"],
        outer["one"]["data_offsets"],
    )


def renamed(inner: dict, outer: dict) -> None:
    outer["one"], outer["two"] = outer["two"], outer["one"]
    digests = inner["digests"]
    digests["one"], digests["two"] = digests["two"], digests["one"]


REFUSED = {
    "nothing": (lambda data: b"", Damaged, "is no cache of this library"),
    "text": (lambda data: b"a poem of some length" * 20, Damaged, "is no cache of this library"),
    "another safetensors file": (
        lambda data: safetensors.torch.save(parts()),
        Damaged,
        "is no cache of this library",
    ),
    "half a header": (lambda data: data[:300], Damaged, "ends inside its header"),
    "one byte less": (lambda data: data[:-1], Damaged, "is cut off: 1 bytes are missing"),
    "one byte more": (lambda data: data + b"\0", Damaged, "has 1 bytes behind its end"),
    "a longer header": (
        lambda data: (int.from_bytes(data[:8], "little") + 1).to_bytes(8, "little") + data[8:],
        Damaged,
        "its header is not what was written",
    ),
    "an endless header": (lambda data: b"\xff" * 7 + b"\0" + data[8:], Damaged, "is no cache of this"),
    "a blank for a blank": (
        lambda data: cut(data)[0][:-1] + b"\n" + cut(data)[1],
        Damaged,
        "its header is not what was written",
    ),
    "a changed header": (
        lambda data: data.replace(b"knorm", b"qnorm"),
        Damaged,
        "its header is not what was written",
    ),
    "another root": (
        lambda data: retold(data, set_inner("root", "0" * 64), is_rooted=False),
        Damaged,
        "its header is not what was written",
    ),
    "a capital in the root": (
        lambda data: data.replace(*[(r := file.START.match(data, 8)[2]), r.upper()]),
        Damaged,
        "is no cache of this library",
    ),
    "another body": (
        lambda data: cut(data)[0] + cut(packed(tensors=parts(12)))[1],
        Damaged,
        "the part|is cut off|behind its end",
    ),
    "places exchanged": (
        lambda data: retold(data, moved),
        Damaged,
        "the part '(one|two)' is not what was written",
    ),
    "names exchanged": (lambda data: retold(data, renamed), Damaged, "the part '(one|two)' is not what was"),
    "a part without a digest": (
        lambda data: retold(data, lambda inner, outer: inner["digests"].pop("one")),
        Damaged,
        "its header cannot be read",
    ),
    "a digest without a part": (
        lambda data: retold(data, set_inner("digests", {"ghost": "0" * 64})),
        Damaged,
        "its header cannot be read",
    ),
    "no digests": (
        lambda data: retold(data, lambda inner, outer: inner.pop("digests")),
        Damaged,
        "its header cannot be read",
    ),
    "an unknown dtype": (
        lambda data: retold(data, lambda inner, outer: outer["one"].update(dtype="F80")),
        Damaged,
        "its header cannot be read",
    ),
    "a shape that does not fit": (
        lambda data: retold(data, lambda inner, outer: outer["one"].update(shape=[9, 9])),
        Damaged,
        "its header cannot be read",
    ),
    "another shape of as many bytes": (
        lambda data: retold(data, lambda inner, outer: outer["one"].update(shape=[9, 7])),
        Damaged,
        "the part 'one' is not what was written",
    ),
    "a later version": (
        lambda data: retold(data, set_inner("version", 3)),
        FutureVersion,
        "has version 3; this library reads version 2",
    ),
    "an earlier version": (lambda data: retold(data, set_inner("version", 1)), Damaged, "or of version 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_whole_is_refused_by_name(name: str) -> None:
    change, kind, message = REFUSED[name]
    changed = change(packed())
    assert changed != packed()
    with pytest.raises(kind, match=message):
        file.opened(changed).verify()
    assert issubclass(kind, CacheFileError) and issubclass(CacheFileError, InputError)


def test_a_valid_part_of_another_file_is_refused() -> None:
    mine, theirs = parts(), parts()
    theirs["one"] = theirs["one"] + 1
    data, other = packed(tensors=mine), packed(tensors=theirs)
    place = file.opened(data).places["one"]
    begin = len(cut(data)[0]) + place.begin
    spliced = data[:begin] + other[begin : begin + place.end - place.begin] + data[begin + 252 :]
    assert len(spliced) == len(data) and place.end - place.begin == 252
    with pytest.raises(Damaged, match="the part 'one' is not what was written"):
        file.opened(spliced).verify()


def test_a_file_is_its_owners_alone_and_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.kv"
    file.File(path).publish([b"first"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def breaks():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file.File(path).publish(breaks())
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["x.kv"]
    path.chmod(0o644)
    file.File(path).publish(file.chunks(HEADER, parts()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["x.kv"]


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.kv"
    file.File(path).publish([b"first"])

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheFileError, match=r"cannot write the cache .*x\.kv: No space left on device"):
        file.File(path).publish([b"second"])
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == ["x.kv"]


def test_where_a_cache_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "a b.kv"
    assert file.open_uri(path).path == file.open_uri(str(path)).path == path
    assert file.open_uri(f"file://{tmp_path}/a%20b.kv").path == path
    assert file.open_uri(f"file://localhost{tmp_path}/a%20b.kv").path == path
    for uri in ("s3://bucket/x.kv", "file://elsewhere/x.kv"):
        with pytest.raises(CacheFileError, match=re.escape(f"cannot open {uri}: a cache is kept at a path")):
            file.open_uri(uri)
    with pytest.raises(CacheFileError, match=r"cannot read the cache .*: No such file"):
        file.open_uri(path).source()
    with pytest.raises(CacheFileError, match=r"cannot write the cache .*: No such file"):
        file.open_uri(tmp_path / "none" / "x.kv").publish([b""])


def test_every_byte_counts() -> None:
    data = bytearray(packed(tensors={"x": torch.arange(5)}))
    chance = random.Random(0)
    for at in range(len(data)):
        bit = 1 << chance.randrange(8)
        data[at] ^= bit
        with pytest.raises(CacheFileError):
            file.opened(bytes(data)).verify()
        data[at] ^= bit
    file.opened(bytes(data)).verify()
