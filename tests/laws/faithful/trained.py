"""Relations of systems whose profile was trained here and stands in for a published one."""

from __future__ import annotations

import itertools

from tests.laws.faithful.table import N, kept, of
from tests.support import profiles


@of("rlkv_surrogate")
def it_is_rlkv_with_other_gates() -> None:
    settings = "sinks=2, recent=5"
    own = kept(f"rlkv_surrogate({settings}) @ 40%", 1)
    assert own == kept(f"rlkv(profile=rlkv_surrogate, {settings}) @ 40%", 1)
    assert own != kept(f"rlkv({settings}) @ 40%", 1)


@of("rlkv_surrogate")
def its_highest_gates_keep_all_and_the_others_stream() -> None:
    found = list(itertools.chain(*kept("rlkv_surrogate(sinks=3, recent=6) @ 33tok")))
    full = [i for i, head in enumerate(found) if len(head) == N]
    gates = profiles.numbers("rlkv_surrogate", 3, 4).flatten()
    assert 0 < len(full) < len(found)
    assert sorted(full) == sorted(gates.topk(len(full)).indices.tolist())
    stream = [*range(3), *range(N - 6, N)]
    assert all(head == stream for i, head in enumerate(found) if i not in full)


@of("rlkv_surrogate")
def what_fits_into_sinks_and_recents_is_never_dropped() -> None:
    everything = [[list(range(N + 3))] * 4] * 3
    assert kept("rlkv_surrogate(sinks=16, recent=64) @ 85tok", 1, 1, 1) == everything
