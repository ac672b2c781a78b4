"""The noisy column: its definition by plain loops, pieces, temperatures, and what a draw depends on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.observe.gumbel import GumbelObserver
from keyvalise.observe.mass import MassObserver
from keyvalise.ops import hashing, mass
from keyvalise.types.data import Env
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_entries, make_env, make_geometry, make_piece, observed, random

CUTS = [(), (31,), (7, 8, 50), tuple(range(55, 63))]


def column(observer: GumbelObserver, history: History, cuts: tuple[int, ...] = (), **env: object) -> Tensor:
    _, entries = observed(observer, make_env(history.geometry, **env), history, cuts)  # type: ignore[arg-type]
    return entries.columns[observer.column]


def noise(env: Env, name: str, n: int) -> Tensor:
    """Gumbel noise [Hq, N, N], drawn pair by pair."""
    rows = []
    for head in range(6):
        for query in range(n):
            one = [torch.tensor([[x]]) for x in (head, query)]
            u = hashing.per_pair(env, name, *one, torch.arange(n).view(1, 1, n))
            rows.append(-(-u.double().log()).log().flatten())
    return torch.stack(rows).view(6, n, n)


@pytest.mark.parametrize(
    ("kind", "names"), [("sample", ["gumbel"]), ("expected", ["gumbel", "gumbel1", "gumbel2", "gumbel3"])]
)
def test_the_definition(kind: str, names: list[str]) -> None:
    history, prompt = History.of(make_geometry(softcap=2.0), (23,)), 15
    env = make_env(history.geometry, layer=2, seed=5, prompt=(prompt,))
    observer = GumbelObserver(kind, 1.3, 0.1)  # type: ignore[arg-type]
    _, entries = observed(observer, env, history)
    decoded = (torch.arange(23) - prompt + 1).clamp(min=0)
    taus = (1.3 + 0.1 * decoded)[:, None]
    want = sum(((history.logits()[0] + noise(env, name, 23)) / taus).softmax(-1) for name in names)
    grouped = (want / len(names)).sum(1).unflatten(0, (2, 3)).mean(1)
    assert_close(entries.columns[observer.column][0], grouped.float(), "score_fp32")


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("kind", ["sample", "expected", "none"])
def test_any_pieces_are_the_whole_also_behind_the_prompt(cuts: tuple[int, ...], kind: str) -> None:
    history = History.of(make_geometry(), (63, 20))
    observer = GumbelObserver(kind)  # type: ignore[arg-type]
    whole = column(observer, history, prompt=(40, 9))
    assert_close(column(observer, history, cuts, prompt=(40, 9)), whole, "score_fp32")


@pytest.mark.parametrize("block", [1, 4 * 2 * 3 * 63 * 5, 2**23])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History.of(make_geometry(), (63, 20))
    whole = column(GumbelObserver(), history)
    monkeypatch.setattr(mass, "BLOCK_BYTES", block)
    assert_close(column(GumbelObserver(), history), whole, "score_fp32")


def test_no_noise_and_no_temperature_is_accumulated_attention() -> None:
    history = History.of(make_geometry(), (63, 20))
    _, entries = observed(MassObserver(), make_env(), history)
    got = column(GumbelObserver("none", 1.0, 0.0), history)
    assert_close(got, entries.columns["mass"], "score_fp32")
    assert_close(column(GumbelObserver("none"), history), got, "score_fp32")
    decoded = column(GumbelObserver("none"), history, prompt=(40, 9))
    assert not torch.allclose(decoded, got, rtol=1e-3)


def test_every_query_spends_what_it_has() -> None:
    got = column(GumbelObserver(), History.of(make_geometry(), (63, 20)))
    assert_close(got.sum(-1), torch.tensor([[63.0, 63], [20, 20]]), "score_fp32")


def test_a_hot_softmax_counts_the_queries_that_could_see() -> None:
    history = History.of(make_geometry(), (63,))
    shares = 1 / torch.arange(1.0, 64)
    want = torch.stack([shares[t:].sum() for t in range(63)]).expand(1, 2, 63)
    assert_close(column(GumbelObserver("none", 1e6), history), want, "score_fp32")


def test_a_draw_knows_neither_row_nor_length_nor_neighbours() -> None:
    history = History.of(make_geometry(), (63, 20))
    alone = History(
        history.geometry, history.q[1:, :, 43:], history.k[1:, :, 43:], history.v[1:, :, 43:], (20,)
    )
    both = column(GumbelObserver(), history)
    assert_close(both[1:, :, :20], column(GumbelObserver(), alone), "score_fp32")
    other = column(GumbelObserver(), history, seed=1)
    assert not torch.allclose(other, both, rtol=1e-3)


def test_weights_stand_for_equal_entries() -> None:
    """Two equal entries without noise take what one of log-weight log 2 takes, at any temperature."""
    keys, q = random(1, 2, 9, 10), random(1, 6, 1, 10, seed=1)
    piece, observer = make_piece(q, (100,)), GumbelObserver("none", 1.7)
    twice = make_entries(torch.cat([keys, keys[:, :, 8:]], 2))
    logw = torch.zeros(1, 2, 9)
    logw[..., 8] = torch.tensor(2.0).log()
    _, pair = observer.update(make_env(), {}, piece, twice)
    _, one = observer.update(make_env(), {}, piece, make_entries(keys, logw=logw))
    assert_close(one[observer.column][..., 8], pair[observer.column][..., 8:].sum(-1), "score_fp32")


def test_inputs_stay_and_dead_slots_are_zero() -> None:
    observer, keys = GumbelObserver(), random(1, 2, 9, 10)
    held = make_entries(keys, lengths=[[9, 5]], columns={observer.column: torch.ones(1, 2, 9)})
    before = held.columns[observer.column].clone()
    _, new = observer.update(make_env(), {}, make_piece(random(1, 6, 1, 10, seed=1), (100,)), held)
    assert new[observer.column].isfinite().all() and (new[observer.column][0, :, :5] > 1).all()
    assert_same(new[observer.column][0, 1, 5:], torch.zeros(4))
    assert torch.equal(held.columns[observer.column].nan_to_num(-1), before.nan_to_num(-1))


def test_other_settings_have_a_column_of_their_own() -> None:
    settings = [
        GumbelObserver(),
        GumbelObserver("none"),
        GumbelObserver(tau_init=2.0),
        GumbelObserver(tau_delta=0),
    ]
    assert len(frozenset().union(*(observer.columns for observer in settings))) == 4
