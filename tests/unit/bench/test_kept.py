"""Maps of kept tokens: shares along the text, exact where bins divide and where they do not."""

from __future__ import annotations

import pytest

from keyvalise.bench import kept, prefill
from keyvalise.host.cache import KVCache
from tests.support import models


@pytest.mark.parametrize(("seen", "n_bins"), [(12, 4), (63, 8), (130, 64), (7, 64)])
def test_all_and_nothing(seen, n_bins):
    assert kept.density(range(seen), seen, n_bins) == [1.0] * min(n_bins, seen)
    assert kept.density([], seen, n_bins) == [0.0] * min(n_bins, seen)


def test_where_they_lie():
    assert kept.density([0, 1, 9], 10, 3) == [0.5, 0.0, 0.33]


def test_bins_hold_every_token_once():
    for seen in (7, 63, 130):
        for ordinal in range(seen):
            assert sum(share > 0 for share in kept.density([ordinal], seen, 8)) == 1


def test_a_cache_in_numbers():
    model = models.tiny("llama")
    cache = prefill.read_all(model, models.prompts(1, 63), [KVCache(model, "adakv(window=8) @ 50%")])[0].cache
    found = kept.summary(cache)
    assert [sum(layer) for layer in found["entries"]] == [
        sum(map(len, cache.kept_positions(layer)[0])) for layer in cache.shared.layers
    ]
    assert len(found["kept"]) == 3 and len(found["kept"][0]) == 4
    assert kept.summary(KVCache(model, "full")) == {}
