"""What may not be dropped: sinks, the newest, all outside a span; never more than is kept."""

from __future__ import annotations

import torch

from keyvalise.ops import protect


def guarded(seen: int, tokens: int, **settings: object) -> list[int]:
    """Ordinals of the protected among all that were seen, behind which two dead slots lie."""
    ordinals = torch.tensor([[[*range(seen), -1, -1]]], dtype=torch.int32)
    mask = protect.mask(ordinals, (seen,), (tokens,), **{"sinks": 0, "recent": 0, **settings})  # type: ignore[arg-type]
    assert not bool(mask[..., seen:].any())
    return mask[0, 0].nonzero().flatten().tolist()


def test_outside_a_span_everything_is_protected() -> None:
    assert guarded(30, 20, only=[(4, 23)]) == [*range(4), *range(23, 30)]
    assert guarded(30, 20, only=[(0, 99)]) == []
    assert guarded(30, 20, only=[(0, 99)], sinks=2, recent=3) == [0, 1, 27, 28, 29]
    assert guarded(30, 20, only=[(10, 28)], sinks=2, recent=5) == [*range(10), *range(25, 30)]


def test_no_more_than_is_kept_and_the_newest_of_it() -> None:
    assert guarded(30, 6, only=[(10, 20)]) == [*range(24, 30)]
    assert guarded(30, 12, only=[(10, 20)], sinks=1) == [0, 9, *range(20, 30)]
    assert guarded(30, 5, only=[(40, 50)], sinks=2, recent=9) == [0, 1, 27, 28, 29]


def test_rows_have_spans_of_their_own() -> None:
    ordinals = torch.arange(9, dtype=torch.int32).expand(2, 3, -1)
    found = protect.mask(ordinals, (9, 9), (8, 8), sinks=0, recent=0, only=[(2, 8), (0, 5)])
    assert found.sum(-1).tolist() == [[3] * 3, [4] * 3]


def test_how_many_are_protected() -> None:
    for sinks, recent, only in ((0, 0, (4, 23)), (2, 3, (0, 99)), (2, 5, (10, 28)), (0, 0, (40, 50))):
        assert protect.total(30, sinks=sinks, recent=recent, only=only) == len(
            guarded(30, 30, sinks=sinks, recent=recent, only=[only])
        )
