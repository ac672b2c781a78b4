"""The controller keeps its deadline; links give what they are asked for, no faster than they may."""

from __future__ import annotations

import random
import time

import pytest

from keyvalise.store import stream
from keyvalise.store.stream.controller import TEXT, Catalogue, Controller, Offer
from keyvalise.store.stream.decode import Decoder
from keyvalise.store.stream.fetch import fetch
from keyvalise.store.stream.link import Server, SocketLink, VirtualLink
from keyvalise.store.stream.shelf import NONE, Shelf
from keyvalise.types.errors import BadArgument, InputError
from tests.unit.store.stream.sheets import half, make, same_sheets

LEVELS = ("low", "mid", "high")


def offers(n: int, seed: int) -> list[Offer]:
    rng = random.Random(seed)
    return [
        Offer(
            {name: int(1000 * 3**i * rng.uniform(0.7, 1.3)) for i, name in enumerate(LEVELS)},
            rng.randrange(50, 150),
        )
        for _ in range(n)
    ]


def deliver(
    left: list[Offer], controller: Controller, trace: list[tuple[float, float]]
) -> tuple[list[str], float]:
    """The choices, and when everything was ready."""
    link = VirtualLink(lambda name: bytes(int(name)), trace)
    ready, names = 0.0, []
    for i, offer in enumerate(left):
        name, begin = controller.choose(left[i:], link.now(), ready), link.now()
        names.append(name)
        if name == TEXT:
            ready = max(ready, begin) + offer.tokens / controller.prefill
            continue
        link.fetch(str(offer.levels[name]))
        controller = controller.observe(offer.levels[name], link.now() - begin)
        ready = max(ready, link.now()) + offer.levels[name] / controller.decoding
    return names, ready


@pytest.mark.parametrize("seed", range(40))
def test_the_deadline_holds_where_the_smallest_level_holds_it(seed: int) -> None:
    rng = random.Random(seed)
    left, rate = offers(rng.randrange(1, 9), seed), rng.uniform(500, 50_000)
    decoding = rng.choice([float("inf"), 20_000.0])
    smallest = deliver(left, Controller(1e-9, decoding=decoding, bandwidth=rate), [(1, rate)])
    assert set(smallest[0]) == {"low"}
    deadline = smallest[1] * rng.uniform(1.0001, 12)
    controller = Controller(deadline, rng.choice([None, 400.0]), decoding, rate)
    names, ready = deliver(left, controller, [(1, rate)])
    assert ready <= deadline * (1 + 1e-9) and TEXT not in names


@pytest.mark.parametrize("seed", range(40))
def test_the_deadline_holds_on_a_link_that_wavers_above_its_least(seed: int) -> None:
    rng = random.Random(seed)
    left, least = offers(rng.randrange(2, 9), seed), 2000.0
    trace = [(rng.uniform(0.1, 2), least * rng.choice([1, 1, 3, 10, 30])) for _ in range(30)] + [(1.0, least)]
    deadline = sum(offer.levels["low"] for offer in left) / least * rng.uniform(1.0001, 6)
    for guess in (None, least, 40 * least):
        names, ready = deliver(left, Controller(deadline, bandwidth=guess, least=least), trace)
        assert ready <= deadline * (1 + 1e-9), names


@pytest.mark.parametrize("seed", range(20))
def test_text_is_the_way_out_where_no_level_holds_the_deadline(seed: int) -> None:
    left, rate = offers(5, seed), 300.0
    deadline = 1.02 * sum(offer.tokens for offer in left) / 500
    names, ready = deliver(left, Controller(deadline, prefill=500.0, bandwidth=rate), [(1, rate)])
    assert TEXT in names and ready <= deadline
    names, _ = deliver(left, Controller(deadline, bandwidth=rate), [(1, rate)])
    assert set(names) == {"low"}


def test_more_time_never_makes_it_coarser() -> None:
    left = offers(6, 3)
    ranks = []
    for deadline in (4, 8, 16, 32, 64):
        names, _ = deliver(left, Controller(float(deadline), bandwidth=1500.0), [(1, 1500.0)])
        ranks.append(sum(LEVELS.index(name) for name in names))
    assert ranks == sorted(ranks) and ranks[0] == 0 and ranks[-1] == 12


def test_it_plans_anew_when_the_link_slows_down() -> None:
    left = [Offer(dict(zip(LEVELS, (1000, 3000, 9000), strict=True)), 100)] * 6
    names, ready = deliver(left, Controller(20.0, bandwidth=9000.0), [(1.0, 9000.0), (1.0, 1000.0)])
    assert names[0] == "high" and "high" not in names[2:] and ready <= 20
    names, _ = deliver(left, Controller(20.0), [(1.0, 9000.0)])
    assert names[0] == "low" and set(names[1:]) == {"high"}


def test_what_chunks_share_is_paid_once() -> None:
    left = [Offer({"low": 100, "high": 200}, 10)] * 3
    controller = Controller(8.0, bandwidth=100.0)
    assert controller.choose(left, 0.0, 0.0, {"low": 100, "high": 200}) == "high"
    assert controller.choose(left, 0.0, 0.0, {"low": 100, "high": 300}) == "low"


@pytest.mark.parametrize("name", ["deadline_s", "prefill", "decoding", "bandwidth", "least"])
def test_numbers_must_be_positive(name: str) -> None:
    with pytest.raises(BadArgument, match=name):
        Controller(**{"deadline_s": 1.0, name: 0.0})


def test_a_virtual_link_takes_as_long_as_its_trace_says() -> None:
    link = VirtualLink(lambda name: bytes(int(name)), [(2.0, 10.0), (3.0, 100.0), (1.0, 5.0)])
    assert len(link.fetch("10")) == 10 and link.now() == 1.0
    link.fetch("110")
    assert link.now() == 3.0
    link.wait(1.5)
    link.fetch("60")
    assert link.now() == pytest.approx(5.0 + 10 / 5)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf([make(2, 130, 8, turn=half(8), seed=seed) for seed in range(2)], chunk=50)


def test_a_shelf_has_what_it_offers(shelf: Shelf) -> None:
    found, shared = shelf.catalogue().offers, shelf.catalogue().shared
    assert Catalogue.parse(shelf.blob("catalogue")) == shelf.catalogue()
    assert [offer.tokens for offer in found] == [50, 50, 30]
    assert all(list(offer.levels) == list(stream.LEVELS) for offer in found)
    assert shared["lossless"]["small"] == 0 < shared["small"]["lossless"] < shared[NONE]["lossless"]
    for name in ("nothing", "chunk/9/small", "chunk/x/small", "chunk/0/tiny", "sides/tiny/small"):
        with pytest.raises(InputError, match="shelf has no"):
            shelf.blob(name)


class Noted:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.computed: list[tuple[int, int]] = []

    def come(self, chunk: int, decoder: Decoder) -> None:
        assert decoder.has(0, chunk)
        self.came.append(chunk)

    def compute(self, begin: int, end: int) -> None:
        self.computed.append((begin, end))


@pytest.mark.parametrize("rate", [1e3, 1e4, 1e6])
def test_a_row_comes_over_a_link(shelf: Shelf, rate: float) -> None:
    link, noted = VirtualLink(shelf.blob, [(1.0, rate)]), Noted()
    decoder, log = fetch(link, Controller(2.5, prefill=200.0, bandwidth=rate), noted)
    computed = [begin // 50 for begin, _ in noted.computed]
    assert noted.computed == [(50 * i, min(130, 50 * i + 50)) for i in computed]
    assert sorted([*computed, *noted.came]) == [0, 1, 2]
    assert [i for i, sent in enumerate(log) if sent.name == TEXT] == computed
    for i, sent in enumerate(log):
        assert decoder.has(0, i) == decoder.has(1, i) == (sent.name != TEXT)
    whole = stream.read(stream.write(shelf.encoded.sheets, log[-1].name if rate > 1e5 else "small", chunk=50))
    if rate > 1e5:
        assert {sent.name for sent in log} == {"lossless"}
        for i in range(3):
            span = slice(50 * i, 50 * i + 50)
            assert same_sheets(
                [stream.Sheet(**decoder.chunk(0, i), ordinals=whole[0].ordinals[span])],
                [stream.Sheet(whole[0].keys[:, span], whole[0].values[:, span], whole[0].ordinals[span])],
            )
    if rate < 5e3:
        assert log[-1].ready_s <= 2.5 and TEXT in {sent.name for sent in log}


def test_a_real_link_is_as_slow_as_its_throttle(shelf: Shelf) -> None:
    names = ["head", f"sides/{NONE}/medium", "chunk/0/medium", "chunk/1/medium"]
    size = sum(len(shelf.blob(name)) for name in names)
    rate = size / 0.25
    with Server(shelf.blob, rate) as server, SocketLink(server.address) as link:
        begin = time.monotonic()
        assert [link.fetch(name) for name in names] == [shelf.blob(name) for name in names]
        spent = time.monotonic() - begin
        with pytest.raises(InputError, match="has nothing named"):
            link.fetch("chunk/9/medium")
        assert link.fetch("head") == shelf.blob("head")
    # A burst of one slice may go ahead of its tokens; a busy machine may take longer, never less.
    assert spent > 0.25 - 16 * 1024 / rate - 0.05


def test_a_row_comes_over_a_real_link(shelf: Shelf) -> None:
    with Server(shelf.blob, 1e6) as server, SocketLink(server.address) as link:
        decoder, log = fetch(link, Controller(30.0, bandwidth=1e6))
    assert {sent.name for sent in log} == {"lossless"} and all(decoder.has(1, i) for i in range(3))


def test_a_link_that_breaks_says_so(shelf: Shelf) -> None:
    with Server(shelf.blob, 1e6) as server:
        link = SocketLink(server.address)
        link.socket.close()
        with pytest.raises(InputError, match="link broke"):
            link.fetch("head")
