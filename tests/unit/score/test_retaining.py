"""Foreseen scores as a part: they are the column; with the true labels in it the wanted tokens stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.recipe.object import Recipe
from keyvalise.score.retaining import RetainingScore
from keyvalise.select.top import TopSelect
from keyvalise.types.data import Entries, Scores
from keyvalise.types.quantity import Budget, Share
from keyvalise.types.when import AtPrompt, Every
from tests.support.compare import assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, make_piece, random

PIECE = make_piece(random(1, 6, 1, 10))
N, N_QUERIES = 63, 5


def scored(column: Tensor, **options: object) -> tuple[Scores, Entries]:
    entries = make_entries(
        random(*column.shape, 10),
        columns={"retaining_locret": column},
        **options,  # type: ignore[arg-type]
    )
    return RetainingScore().score(make_env(), entries, {}, PIECE), entries


def kept(labels: Tensor, n: int) -> list[set[int]]:
    """What stays of every kv head when the heads foresee exactly these labels [H, N]."""
    scores, entries = scored(labels[None])
    guard, counts = torch.zeros_like(entries.live), torch.full((1, labels.shape[0]), n)
    choice = TopSelect().select(make_env(), scores, counts, guard, entries, scores)
    return [set(row.nonzero().flatten().tolist()) for row in choice.keep[0]]


def logits(seed: int, has_needles: bool) -> Tensor:
    """[H, G, answer queries, N]: what answers look at, with one token far above the others for each."""
    found = random(2, 3, N_QUERIES, N, seed=seed)
    if has_needles:
        places = torch.rand(found.shape[:3], generator=torch.Generator().manual_seed(seed)) * N
        found.scatter_(-1, places.long()[..., None], 20.0)
    return found


def test_scores_are_the_column_and_dead_slots_are_nothing() -> None:
    column = random(2, 2, 20)
    scores, entries = scored(column, lengths=[[20, 13], [1, 20]])
    assert scores.kind == "logit"
    assert_same(scores.values, column.masked_fill(~entries.live, 0.0))


def test_without_a_column_all_are_alike() -> None:
    entries = make_entries(random(1, 2, 7, 10))
    assert (RetainingScore().score(make_env(), entries, {}, PIECE).values == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_with_the_true_labels_the_best_token_of_every_answer_query_stays(seed: int) -> None:
    wanted = logits(seed, has_needles=True)
    best = wanted.argmax(-1).flatten(1)
    for head, mine in enumerate(kept(wanted.amax((1, 2)), 3 * N_QUERIES)):
        assert set(best[head].tolist()) <= mine
    # Logits of different queries share no scale: without needles, one may be outbid by all others' tokens.
    wanted = logits(seed, has_needles=False)
    labels, best = wanted.amax((1, 2)), wanted.argmax(-1).flatten(1)
    for head in range(2):
        rivals = (labels[head] >= wanted[head].amax(-1).min()).sum()
        assert set(best[head].tolist()) <= kept(labels, int(rivals))[head]
        assert int(labels[head].argmax()) in kept(labels, 1)[head]


def test_the_published_system() -> None:
    end, chunks = Recipe.parse("locret").stages
    assert end.when == (AtPrompt(),) and chunks.when == (Every(1024, "prompt"),)
    assert (end.act.recent, chunks.act.recent) == (Share(1), Share(15))
    assert end.score == chunks.score == RetainingScore() and end.budget == chunks.budget == Budget(25, "%")
    assert not end.decodes and not chunks.decodes and Recipe.parse("locret").positions == "absolute"
    slots = Recipe.parse("locret(positions=slot, recent=100, head=mine) @ 16384tok")
    assert slots.positions == "slot" and slots.assets == (("mine", "retaining"),)
    assert {stage.act.recent for stage in slots.stages} == {100}
    assert Recipe.parse("locret(every=64)").stages[-1].when == (Every(64, "decode"),)
    assert make_geometry().group == 3
