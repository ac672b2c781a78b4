"""A cache over a link: what comes is what was sent, what would come too late is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache
from keyvalise.host import answer, streaming
from keyvalise.store.stream.controller import TEXT, Controller
from keyvalise.store.stream.link import Server, SocketLink, VirtualLink
from keyvalise.store.stream.shelf import Shelf
from keyvalise.types.errors import HostError, InputError
from tests.support import drive
from tests.support.compare import assert_close
from tests.support.models import tiny

CHUNK = 128


@pytest.fixture(scope="module")
def sent() -> tuple[Any, torch.Tensor, KVCache, Shelf]:
    """The reference model, a document, a cache that has read it, and what is offered of it."""
    model, tokenizer = keyvalise.reference()
    task = keyvalise.tasks.generate("needle", tokens=500, seed=3)
    document = tokenizer(task.document, return_tensors="pt").input_ids
    cache = answer.read(model, document)
    return model, document, cache, streaming.shelf(cache, document, CHUNK)


@torch.no_grad()
def said(model: Any, cache: KVCache, document: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(document[:, :9], past_key_values=cache.fork()).logits
    return found


def test_a_fast_link_brings_what_was_sent(sent: tuple[Any, torch.Tensor, KVCache, Shelf]) -> None:
    model, document, cache, shelf = sent
    link = VirtualLink(shelf.blob, [(1.0, 1e9)])
    got, log = streaming.receive(link, model, document, Controller(1.0, bandwidth=1e9))
    assert {one.name for one in log} == {"lossless"} and got.seen == cache.seen
    assert torch.equal(said(model, got, document), said(model, cache, document))


def test_a_slow_link_leaves_text_to_be_computed(sent: tuple[Any, torch.Tensor, KVCache, Shelf]) -> None:
    model, document, cache, shelf = sent
    sizes = [offer.levels["smallest"] for offer in shelf.catalogue().offers]
    link = VirtualLink(shelf.blob, [(1.0, sum(sizes) / 2)])
    controller = Controller(1.0 + link_start(shelf, link), prefill=1e4, bandwidth=sum(sizes) / 2)
    got, log = streaming.receive(link, model, document, controller)
    names = [one.name for one in log]
    assert TEXT in names and set(names) - {TEXT}
    # Text behind chunks that came small is computed from them, so the first ones alone are exact.
    n = CHUNK * next((i for i, name in enumerate(names) if name != TEXT), len(names))
    assert n > 0
    for one, two in zip(drive.snapshot(got)[1::3], drive.snapshot(cache)[1::3], strict=True):
        assert_close(one[:, :, :n], two[:, :, :n], "logits_fp32")
    assert got.seen == cache.seen and not torch.equal(
        said(model, got, document), said(model, cache, document)
    )


def link_start(shelf: Shelf, link: VirtualLink) -> float:
    """Seconds until the first chunk is asked for, and what all chunks share."""
    head = len(shelf.blob("catalogue")) + len(shelf.blob("head")) + len(shelf.blob("sides/none/smallest"))
    return head / link.trace[0][1]


def test_a_recipe_acts_when_all_has_come(sent: tuple[Any, torch.Tensor, KVCache, Shelf]) -> None:
    model, document, _, shelf = sent
    with Server(shelf.blob, 1e8) as server, SocketLink(server.address) as link:
        got, log = streaming.receive(link, model, document, Controller(60.0, bandwidth=1e8), "keydiff @ 25%")
    assert len(log) == shelf.n_chunks and {one.name for one in log} == {"lossless"}
    want = answer.read(model, document, "keydiff @ 25%")
    assert drive.held(got) == drive.held(want)


def test_what_is_refused(sent: tuple[Any, torch.Tensor, KVCache, Shelf]) -> None:
    model, document, cache, shelf = sent
    with pytest.raises(InputError, match="the document must be the"):
        streaming.shelf(cache, document[:, 1:])
    with pytest.raises(HostError, match="DynamicCache"):
        streaming.shelf(answer.read(model, document, "knorm @ 50%"), document)
    link = VirtualLink(shelf.blob, [(1.0, 1e9)])
    with pytest.raises(InputError, match="the link offers"):
        streaming.receive(link, model, document[:, :100], Controller(1.0, bandwidth=1e9))
    gemma = tiny("gemma3")
    ids = drive.text(20).ids
    with pytest.raises(InputError, match="a cache of its own kind"):
        streaming.shelf(answer.read(gemma, ids), ids)
