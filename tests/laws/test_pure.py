"""pure: nothing that goes into a call is changed by it, and nothing is read that was never written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise import KVCache, flow
from keyvalise.host import handle
from keyvalise.store import layer as store
from keyvalise.store.roll import Roll
from keyvalise.types.data import Call, Memory
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_same
from tests.support.models import tiny

WIDTHS = (63, 1, 1, 1, 9, 1)


def readable(memory: Memory) -> list[Tensor]:
    """Copies of everything live that a memory can be asked for."""
    copies = [stat.clone() for _, stat in sorted(memory.stats.items())]
    memory, codes = drive.apart(memory)
    copies += [code.clone() for code in codes]
    if store.writable(memory):
        entries = Roll.of(memory).entries
        found = [entries.ordinals, entries.keys(), entries.values(), entries.logw]
        found += [column for _, column in sorted(entries.columns.items())]
        copies += [entries.live.clone(), *(x[entries.live].clone() for x in found if x is not None)]
    return [*copies, torch.tensor(memory.clock), torch.tensor(memory.prompt)]


def test_inputs_stay_as_they_were(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = 0

    def watched(inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(memory: Memory, *args: Any, **options: Any) -> Any:
            nonlocal checked
            given = [x for x in args if isinstance(x, Tensor)]
            given += [
                x
                for call in args
                if isinstance(call, Call)
                for x in (call.piece.q, call.piece.k, call.piece.v)
            ]
            before, copies = readable(memory), [x.clone() for x in given]
            result = inner(memory, *args, **options)
            for got, want in zip([*readable(memory), *given], [*before, *copies], strict=True):
                assert_same(got, want, what="an input")
            checked += 1
            return result

        return outer

    monkeypatch.setattr(flow, "advance", watched(flow.advance))
    monkeypatch.setattr(handle.store, "step", watched(store.step))
    model = tiny("llama")
    drive.run(model, KVCache(model, case.text), drive.text(76, 50).calls(*WIDTHS))
    assert checked >= 3 * len(WIDTHS)


def test_a_fork_goes_its_own_way(case: Case) -> None:
    model = tiny("llama")
    text, other = drive.text(72), drive.text(72, seed=1)
    first, *rest = text.calls(63, 1, 1, 6, 1)
    alone = drive.run(model, KVCache(model, case.text), [first, *rest])
    cache = KVCache(model, case.text)
    drive.run(model, cache, [first])
    twin = cache.fork()
    got: list[Tensor] = []
    for mine, theirs in zip(rest, other.calls(63, 1, 1, 6, 1)[1:], strict=True):
        drive.run(model, twin, [theirs])
        got += drive.run(model, cache, [mine]).logits
    for a, b in zip(got, alone.logits[1:], strict=True):
        assert_same(a, b)
    assert drive.held(cache) == alone.kept[-1]


def test_fresh_memory_is_never_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny("llama"), drive.text(76, 50, 26).calls(*WIDTHS)
    want = drive.run(model, KVCache(model, case.text), calls)
    n_poisoned = 0

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def outer(*args: Any, **options: Any) -> Tensor:
            nonlocal n_poisoned
            fresh = make(*args, **options)
            n_poisoned += 1
            if fresh.is_floating_point():
                return fresh.fill_(float("nan"))
            return fresh.fill_(True if fresh.dtype is torch.bool else 97)

        return outer

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name)))
    monkeypatch.setattr(Tensor, "new_empty", poisoned(Tensor.new_empty))
    got = drive.run(model, KVCache(model, case.text), calls)
    assert n_poisoned >= 6
    assert got.kept == want.kept
    for call, a, b in zip(calls, got.logits, want.logits, strict=True):
        assert_same(a[call.real], b[call.real])
