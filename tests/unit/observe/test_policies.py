"""What policies lose: the same in any pieces, of what is held, and known for good when decoding begins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.observe.policies import PoliciesObserver
from keyvalise.ops import policies
from keyvalise.types.data import Entries, Env
from keyvalise.types.quantity import Share
from tests.support.compare import assert_close
from tests.unit.builders import NAN, History, make_entries, make_env, make_geometry, random

WATCHED = PoliciesObserver("classes", Share(20), 7)
TABLE = {"classes": {"classes": torch.tensor([0, 1, 2, 0], dtype=torch.int8)}}


def env(prompt: tuple[int, ...] = ()) -> Env:
    return replace(make_env(prompt=prompt), fixed=TABLE)


def ids(*counts: int) -> Tensor:
    """Token 1 first in every row, 2 at every fifth place, 3 and one beyond the table elsewhere."""
    rows = []
    for n in counts:
        row = torch.where(torch.arange(n) % 5 == 3, 2, torch.where(torch.arange(n) % 2 == 0, 3, 9))
        row[:1] = 1
        rows.append(torch.cat([torch.ones(max(counts) - n, dtype=torch.long), row]))
    return torch.stack(rows)


def watched(history: History, cuts: tuple[int, ...] = ()) -> tuple[dict[str, Tensor], Entries]:
    """Statistics and entries after a prompt that came in pieces."""
    surroundings, tokens = env(history.counts), ids(*history.counts)
    stats, columns, begin = WATCHED.init(surroundings, len(history.counts), "cpu"), {}, 0
    for end in (*cuts, history.q.shape[2]):
        held = history.entries(end)
        width = held.live.shape[-1]
        grown = {
            name: torch.nn.functional.pad(c, (0, width - c.shape[-1])).masked_fill(~held.live, NAN)
            for name, c in columns.items()
        }
        held = replace(held, columns=grown)
        piece = replace(history.piece(begin, end), taps={"ids": tokens[:, begin:end]})
        stats, columns = WATCHED.update(surroundings, stats, piece, held)
        begin = end
    return stats, replace(held, columns=columns)


@pytest.mark.parametrize("cuts", [(7,), (31, 32), tuple(range(50, 63))])
def test_pieces_are_the_whole(cuts: tuple[int, ...]) -> None:
    history = History.of(make_geometry(), (63, 20))
    want, whole = watched(history)
    got, parts = watched(history, cuts)
    for name, stat in want.items():
        assert_close(got[name].float(), stat.float(), "score_fp32", what=name)
    for name, column in whole.columns.items():
        assert_close(parts.columns[name][whole.live], column[whole.live], "score_fp32", what=name)
    assert all(bool(stat.isfinite().all()) for stat in got.values())


def test_shares_lost_fall_and_tiers_are_counted() -> None:
    history = History.of(make_geometry(), (63, 20))
    stats, entries = watched(history)
    lost, held, policy = (stats[name] for name in WATCHED.called("lost", "held", "policy"))
    assert bool((lost.diff(dim=-1) <= 0).all()) and bool(((lost > 0) & (lost < 1)).all())
    assert held[0, :, :3].tolist() == [[1, 12, 12]] * 2 and held[1, :, :3].tolist() == [[1, 4, 4]] * 2
    assert held.sum(-1).tolist() == [[63, 63], [20, 20]]
    assert policy.tolist() == [[-1, -1], [-1, -1]]
    tier = policies.REST - entries.columns[WATCHED.called("rank")[0]]
    assert tier[0, 0, :4].tolist()[0] == 0 and float(tier[0, 0, 3]) == 1
    attention = history.attention()[0].unflatten(0, (2, -1)).mean(1)
    kept = torch.isin(ids(63)[0], torch.tensor([1, 2]))
    assert_close(lost[0, :, 1], 1 - attention[..., kept].sum((1, 2)).float() / 63, "score_fp32")


def decoded(held: list[int]) -> list[int]:
    """The policy of a head that holds these tokens of a prompt of 20 when the 21st comes."""
    stats, entries = watched(History.of(make_geometry(), (20,)))
    columns = {
        name: torch.cat([c[..., held], torch.zeros(1, 2, 1)], -1) for name, c in entries.columns.items()
    }
    now = make_entries(
        random(1, 2, len(held) + 1, 10), ordinals=torch.tensor([*held, 20]).expand(1, 2, -1), columns=columns
    )
    piece = History.of(make_geometry(), (21,)).piece(20)
    piece = replace(piece, taps={"ids": torch.tensor([[3]])})
    after, _ = WATCHED.update(env((20,)), stats, piece, now)
    lost, _, policy = WATCHED.called("lost", "held", "policy")
    assert torch.equal(after[lost], stats[lost]), "shares lost are those of the prompt"
    again, _ = WATCHED.update(env((20,)), after, piece, now)
    assert torch.equal(again[policy], after[policy])
    return after[policy][0].tolist()


def test_what_is_held_tells_the_policy() -> None:
    _, entries = watched(History.of(make_geometry(), (20,)))
    tier = policies.REST - entries.columns[WATCHED.called("rank")[0]][0, 0]
    for policy in range(4):
        held = (tier <= policy).nonzero().flatten().tolist()
        assert decoded(held)[0] == policy
    assert decoded(list(range(20))) == [4, 4]
    assert decoded([0, *range(13, 20)])[0] == 0, "a few of the next tier are not the tier"


def test_nothing_is_known_of_a_text_that_begins_without_a_prompt() -> None:
    history = History.of(make_geometry(), (1,))
    piece = replace(history.piece(), taps={"ids": torch.tensor([[3]])})
    stats = WATCHED.init(env(), 1, "cpu")
    found, _ = WATCHED.update(env((0,)), stats, piece, history.entries())
    lost, _, policy = WATCHED.called("lost", "held", "policy")
    assert found[policy].tolist() == [[4, 4]] and found[lost].unique().tolist() == [1.0]
