"""One slot is where entries leave, and its place is known from where decoding began."""

from __future__ import annotations

import torch

from keyvalise.observe.start import StartObserver
from keyvalise.score.slot import SlotScore
from keyvalise.types.data import Stretch
from tests.unit.builders import make_entries, make_env, make_piece, random

H = 2


def order(part: SlotScore, n: int, start: int) -> list[int]:
    """Slots in the order in which they leave."""
    stats = {"start": torch.full((1, H), start)}
    entries = make_entries(random(1, H, n, 4))
    scores = part.score(make_env(), entries, stats, make_piece(random(1, 6, 1, 4)))
    assert scores.values.shape == (1, H, n)
    return scores.values[0, 1].argsort().tolist()


def test_entries_leave_behind_the_slot_and_the_beginning_goes_last() -> None:
    assert order(SlotScore(-3), 9, 7) == [4, 5, 6, 7, 8, 3, 2, 1, 0]
    assert order(SlotScore(2), 5, -1) == [2, 3, 4, 1, 0]
    assert order(SlotScore(-25), 6, 4) == order(SlotScore(0), 6, -1) == [0, 1, 2, 3, 4, 5]
    assert order(SlotScore(-2), 6, -1) == [4, 5, 3, 2, 1, 0]


def test_only_a_slot_from_the_end_needs_to_know_the_start() -> None:
    assert SlotScore(4).observers == () and SlotScore().observers == (StartObserver(),)


def test_the_start_is_what_was_held_before_the_first_token_behind_the_prompt() -> None:
    observer, stats = StartObserver(), StartObserver().init(make_env(), 2, "cpu")
    assert stats["start"].dtype is torch.int32

    def see(starts: tuple[int, int], n: int, prompt: tuple[int, int], held: int) -> list[list[int]]:
        nonlocal stats
        entries = make_entries(random(2, H, 20, 4), lengths=[[held] * H] * 2)
        piece = make_piece(random(2, 6, n, 4), starts)
        stats, columns = observer.update(make_env(prompt=prompt), stats, piece, entries)
        assert not columns
        return stats["start"].tolist()

    assert see((0, 0), 12, (12, 12), 12) == [[-1] * H] * 2
    assert see((12, 12), 1, (12, 12), 8) == [[7] * H] * 2
    assert see((13, 13), 1, (12, 12), 8) == [[7] * H] * 2
    assert see((14, 14), 3, (17, 12), 10) == [[-1] * H, [7] * H]
    assert see((17, 17), 2, (17, 12), 9) == [[7] * H] * 2


def test_a_row_without_tokens_is_left_alone() -> None:
    observer, entries = StartObserver(), make_entries(random(2, H, 9, 4))
    stretch = Stretch(3, (5, 5), (0, 3), (3, 0))
    piece = make_piece(random(2, 6, 3, 4))
    piece = type(piece)(piece.q, piece.k, piece.v, stretch)
    before = {"start": torch.tensor([[-1, -1], [-1, -1]], dtype=torch.int32)}
    stats, _ = observer.update(make_env(prompt=(5, 5)), before, piece, entries)
    assert stats["start"].tolist() == [[6, 6], [-1, -1]]
