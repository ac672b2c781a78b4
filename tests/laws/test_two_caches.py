"""two_caches: caches alive at once know nothing of each other, interleaved or in threads."""

from __future__ import annotations

import threading

from transformers import DynamicCache

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_same

WIDTHS = (63, 1, 1, 1)


def test_interleaved_equals_alone(case: Case) -> None:
    model = case.model
    one, two = drive.text(66).calls(*WIDTHS), drive.text(66, 40, seed=1).calls(*WIDTHS)
    alone = drive.run(model, KVCache(model, case.text), one)
    first, second, third = KVCache(model, case.text), KVCache(model, "knorm @ 9tok"), DynamicCache()
    for i, call in enumerate(one):
        got = drive.run(model, first, [call])
        drive.run(model, second, two[i : i + 1])
        drive.run(model, third, two[i : i + 1])
        assert_same(got.logits[0], alone.logits[i], what=f"call {i}")
        assert got.kept[0] == alone.kept[i]


def test_in_threads_equals_alone(case: Case) -> None:
    model = case.model
    texts = [drive.text(66, seed=seed).calls(*WIDTHS) for seed in range(3)]
    alone = [drive.run(model, KVCache(model, case.text), calls) for calls in texts]
    trails: dict[int, drive.Trail] = {}

    def work(i: int) -> None:
        trails[i] = drive.run(model, KVCache(model, case.text), texts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, want in enumerate(alone):
        assert trails[i].kept == want.kept
        for got, logits in zip(trails[i].logits, want.logits, strict=True):
            assert_same(got, logits, what=f"thread {i}")
