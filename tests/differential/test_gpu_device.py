"""What only a device can show: sizes of models, what is held, that nobody waits; and what can be seen without
one: that the kernels compile for it, and the page of their figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from keyvalise.ops.fast.gpu import decode, legible, mass
from tests.differential.test_gpu_mass import moved
from tests.differential.test_gpu_start import ready
from tests.support.decoding import DTYPES, agree, expected, runs_of
from tests.unit.builders import make_entries, make_geometry, make_piece

COMPILING = """
import sys
from dataclasses import replace
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit
from keyvalise.ops.fast.gpu import decode, legible, mass, start
from keyvalise.types.geometry import Rope
from keyvalise.types.written import Codewords, Integers
from tests.unit.builders import make_entries, make_geometry, make_piece

class Absent:
    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

def compiled(kernel, *args, grid, warmup, **kwargs):
    found = run(kernel, *args, grid=grid, warmup=True, **kwargs)
    assert found.metadata.shared <= 99 * 1024, (kernel, found.metadata.shared)
    print(kernel.fn.__name__, len(found.asm["cubin"]) > 0)
    hashes.add(found.hash)

hashes = set()
run, jit.JITFunction.run = jit.JITFunction.run, compiled
driver.set_active(Absent())
legible.flaw_at = lambda *tensors: None
start.n_processors = lambda device: 132

dtype, group = getattr(torch, sys.argv[2]), int(sys.argv[3])
q, k = torch.zeros(1, 2 * group, 2, 128, dtype=dtype), torch.zeros(1, 2, 260, 128, dtype=dtype)
visible, logw = torch.zeros(1, 2, dtype=torch.int32), torch.zeros(1, 2, 260)
decode.dense(q, k, k, visible=visible, logw=logw, softcap=3.0, scale=0.1)
n_before, (k_less, logw_less) = len(hashes), (x[:, :, :257] for x in (k, logw))
decode.dense(q, k_less, k_less, visible=visible, logw=logw_less, softcap=3.0, scale=0.1)
assert len(hashes) == n_before, "compiled anew for another number of entries"
flat, offsets = k[0].flatten(0, 1), torch.tensor([0, 63, 520])
decode.ragged(q, flat, flat, offsets=offsets, scale=0.1)
side = Integers(torch.zeros(520, 64, dtype=torch.uint8), torch.zeros(520, 2, 2).half(), 4, 128)
decode.coded(q, side, side, offsets=offsets, scale=0.1)
names, lengths = torch.zeros(520, 16, dtype=torch.uint8), torch.zeros(520, 1).half()
halves, pairs = (Rope(torch.zeros(64), is_interleaved) for is_interleaved in (False, True))
places = torch.zeros(520, dtype=torch.int32)
for size, rope in ((8, halves), (128, pairs)):
    side = Codewords(names, torch.zeros(2, 16, 256, size).half(), 128, lengths)
    decode.coded(q, replace(side, turn=(places, rope)), side, offsets=offsets, scale=0.1)
geometry, entries = make_geometry(query_heads=2 * group, dim=128), make_entries(k)
mass.window_mass(geometry, q, torch.tensor([[258, 259]]), entries)
mass.column_sums(geometry, make_piece(q, (258,), torch.zeros(1, 2 * group, 2)), entries)
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
@pytest.mark.parametrize(("dtype", "group"), [("bfloat16", "4"), ("float32", "2"), ("float32", "8")])
def test_kernels_compile_for_a_device_that_is_not_there(
    capability: str, dtype: str, group: str, tmp_path: Path
) -> None:
    if not legible.is_installed():
        pytest.skip("triton is not installed")
    env = {name: value for name, value in os.environ.items() if name != legible.VARIABLE}
    env |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMPILING, capability, dtype, group]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    names = ["split", "merge"] * 6 + ["norms", "columns", "columns"]
    assert done.stdout.split() == [word for name in names for word in (name, "True")]


def test_the_page_of_figures_is_a_table() -> None:
    from bench import gpu_page

    assert "Nothing has been measured" in gpu_page.table([])
    machine = {"device": "some device", "torch": "2", "triton": "3", "copy_per_s": 2e12}
    times = {"least": 0.01, "median": 0.0125, "host": 0.08}
    lines = [
        {"kind": kind, "dtype": "bfloat16", "H": 8, "G": 4, "S": 1, "D": 128, "T": entries}
        | {"bytes": 7, "ms": dict.fromkeys(ways, times), "share_of_copy": 0.634}
        | machine
        for kind, ways in (("dense", ("kernel", "sdpa", "plain")), ("window", ("kernel", "plain")))
        for entries in (131072, 1024, 1024)
    ]
    page = gpu_page.table(lines)
    assert page.index("| bfloat16 | 4 | 1,024 |") < page.index("| bfloat16 | 4 | 131,072 |")
    assert page.count("| bfloat16 |") == 4 and "2000 GB/s" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert {len(cells) for cells in rows} == {8} and "| 12.5 |  | 12.5 | 63 % | 80 |" in page


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("group", [1, 8])
def test_at_the_size_of_a_model(dtype: torch.dtype, group: int) -> None:
    to = ready("cuda")
    torch.manual_seed(group)
    q, k, v = torch.randn(2, 8 * group, 1, 128), *(torch.randn(2, 8, 4099, 128) for _ in "kv")
    q, k, v = (x.to(dtype) for x in (q, k, v))
    lengths = torch.tensor([4099, 1025], dtype=torch.int32)
    got = decode.dense(q.to(to), k.to(to), v.to(to), lengths=lengths.to(to), scale=128**-0.5)
    agree(got, expected(q.float(), runs_of(k, v, [4099, 1025]), scale=128**-0.5))


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    to = ready("cuda")
    q, k = torch.randn(1, 8, 1, 64, device=to), torch.randn(1, 2, 130, 64, device=to)
    given = {"lengths": torch.tensor([63], device=to), "visible": torch.tensor([[63]], device=to)}
    flat, bounds = k[0].flatten(0, 1), torch.tensor([0, 130, 260], device=to)
    before = torch.cuda.get_sync_debug_mode()
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            decode.dense(q, k, k, **given, scale=0.125)
            decode.ragged(q, flat, flat, offsets=bounds, scale=0.125)
        finally:
            torch.cuda.set_sync_debug_mode(before)


@pytest.mark.gpu
def test_queries_times_entries_are_never_held() -> None:
    to, n = ready("cuda"), 8192
    geometry = make_geometry(query_heads=4, dim=64)
    keys, q = torch.randn(1, 2, n, 64, device=to), torch.randn(1, 4, n, 64, device=to)
    entries, lse = make_entries(keys.cpu()), torch.randn(1, 4, n, device=to)
    held = moved(entries, to)
    mass.column_sums(geometry, make_piece(q, lse=lse), held)
    torch.cuda.reset_peak_memory_stats(to)
    before = torch.cuda.memory_allocated(to)
    mass.column_sums(geometry, make_piece(q, lse=lse), held)
    mass.window_mass(geometry, q[:, :, -32:], torch.arange(n - 32, n, device=to)[None], held)
    assert torch.cuda.max_memory_allocated(to) - before < n * n // 4
