"""transient: a decode step reads a coded segment in blocks, and allocates a small share of what it is raw."""

from __future__ import annotations

import torch

from keyvalise import KVCache
from keyvalise.types.code import Chained
from keyvalise.types.data import Queries, Stretch
from tests.support import drive, long
from tests.support.cases import Case
from tests.support.models import tiny

TOKENS, SHARE = 2**15, 16


def test_a_step_over_many_entries_allocates_a_sixteenth_of_them(entry: Case) -> None:
    if entry.recipe.code is None or isinstance(entry.recipe.code, Chained):
        return  # a layer that is foretold from the one below is read whole
    model = tiny("llama", head_dim=32)
    cache = KVCache(model, entry.text, dtype=torch.bfloat16)
    drive.run(model, cache, drive.text(63).calls(63))
    env = cache.shared.layers[0].env
    assert env is not None
    held = long.segment(entry.recipe.code, env, TOKENS)
    q = torch.randn(1, env.geometry.n_query_heads, 1, 32, generator=torch.Generator().manual_seed(1))
    asked = Queries(q.bfloat16(), Stretch.whole(1, (TOKENS,)), env.geometry, env.rope)
    held.attend(asked)
    dense = TOKENS * env.geometry.token_bytes
    most = long.peak_bytes(lambda: held.attend(asked))
    assert 0 < most <= dense / SHARE, f"1/{dense / most:.1f} of {dense} bytes"


def test_the_peak_is_what_was_held_at_once() -> None:
    def run() -> None:
        for _ in range(3):
            torch.zeros(1000)
        (torch.zeros(500) + 1, torch.zeros(2000))

    assert 4 * 2500 <= long.peak_bytes(run) <= 4 * 3500
