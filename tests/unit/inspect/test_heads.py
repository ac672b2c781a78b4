"""Heads are told apart by what they look at, on attention that the model itself shows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import keyvalise
from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.inspect import heads, profile, repeats
from keyvalise.inspect import map as maps
from keyvalise.inspect.rows import Rows, probabilities
from keyvalise.store import asset
from keyvalise.types.errors import InputError
from tests.support import drive, stock
from tests.support.models import tiny


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return keyvalise.reference()


@pytest.fixture(scope="module")
def measured(loaded: tuple[Any, Any]) -> heads.Heads:
    model, tokenizer = loaded
    return heads.measure(model, tokenizer, heads.needles(model, tokenizer, tokens=256, n=9))


def test_rows_are_the_attention_of_the_last_queries() -> None:
    rows = Rows.on(tiny("llama"), 5)
    drive.run(tiny("llama"), rows.cache, drive.text(41).calls(41))
    want = stock.prompt(41).attention
    for layer, got in rows.calls[0].items():
        assert torch.allclose(got, want[layer][:, -5:], atol=1e-5)


def test_every_call_has_its_own_rows() -> None:
    rows = Rows.on(tiny("llama"))
    drive.run(tiny("llama"), rows.cache, drive.text(12).calls(9, 1, 1, 1))
    assert [call[0].shape[-1] for call in rows.calls] == [9, 10, 11, 12]
    assert all(len(call) == 3 for call in rows.calls)


def test_probabilities_see_no_later_key() -> None:
    q, keys = torch.randn(4, 3, 8), torch.randn(2, 7, 8)
    found = probabilities(q, keys, 0.3)
    assert torch.allclose(found.sum(-1), torch.ones(4, 3))
    assert not found[:, 0, 5:].any() and not found[:, 1, 6:].any() and found[:, 2].all()


def test_the_sentence_with_the_answer_is_found() -> None:
    document = "the code of mira is 47 12 . the code of jon is 33 12 . nothing here"
    assert heads.sentence(document, "the code of jon is", "33 12") == (28, 52)
    assert document[28:52] == "the code of jon is 33 12"
    assert heads.sentence(document, "the code of ada is", "99 99") is None


def test_columns_cover_the_sentence(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    for needle in heads.needles(model, tokenizer, tokens=256, n=5):
        ids = needle.prompt.document[0, needle.first : needle.end].tolist()
        assert needle.answer in tokenizer.decode(ids)
        assert 5 < len(ids) < 30


def test_a_model_that_retrieves_has_retrieval_heads(measured: heads.Heads) -> None:
    assert measured.n_right >= 8
    score = measured.scores["retrieval"]
    assert float(score.max()) > 0.1 and float(score.median()) < 0.05
    assert score.argmax() // score.shape[1] == measured.scores["evaluators"].sum(1).argmax()
    streaming = measured.scores["streaming"].flatten()
    assert torch.corrcoef(torch.stack([score.flatten(), streaming]))[0, 1] < 0


def test_scores_of_two_halves_agree(loaded: tuple[Any, Any], measured: heads.Heads) -> None:
    model, tokenizer = loaded
    other = heads.measure(model, tokenizer, heads.needles(model, tokenizer, tokens=256, n=9, seed=500))
    ranks = torch.stack(
        [s.scores["semantic_retrieval"].flatten().argsort().argsort() for s in (measured, other)]
    )
    assert float(torch.corrcoef(ranks.double())[0, 1]) > 0.8


def test_a_model_that_answers_nothing_is_refused(loaded: tuple[Any, Any]) -> None:
    tokenizer, dull = loaded[1], copy.deepcopy(loaded[0])
    with torch.no_grad():
        dull.model.norm.weight.zero_()
    with pytest.raises(InputError, match="answers none of 2 needles"):
        heads.measure(dull, tokenizer, heads.needles(dull, tokenizer, tokens=128, n=2))


@pytest.mark.parametrize(("shift", "name"), [(0, "echo"), (1, "induction")])
def test_repeats_are_seen_for_what_they_are(shift: int, name: str) -> None:
    """A head whose query equals the key of the earlier copies, or of what followed them."""
    length, n = 9, 28
    place = torch.arange(n) - 1
    unit = torch.eye(length)
    keys, queries = unit[place % length] * 30, unit[(place + shift) % length] * 30
    keys[0] = queries[0] = 0
    found = repeats.of_layer(queries[None], keys[None], 1.0, length)
    other = {"echo": "induction", "induction": "echo"}[name]
    # An echo head sees the present token too, and what follows the last of a copy may be the first column.
    assert float(found[name]) > {"echo": 0.5, "induction": 0.9}[name]
    assert float(found[other]) < 0.01


def test_razor_lets_heads_enter_by_either_kind() -> None:
    echo, induction = torch.zeros(4, 25), torch.zeros(4, 25)
    echo[2, 3], induction[1, :14] = 1, torch.arange(14, 0, -1)
    gate = repeats.razor(echo, induction)
    best = {divmod(int(i), 25) for i in gate.flatten().topk(15).indices}
    assert best == {(2, 3), *((1, head) for head in range(14))}


def test_a_profile_is_kept_and_found_again(
    loaded: tuple[Any, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    scores, facts = profile.measure(*loaded, tokens=128, n=3)
    folder = profile.save(loaded[0], scores, facts)
    assert folder == tmp_path / "assets" / assets.fingerprint(loaded[0])
    made = asset.read(folder / "retrieval.safetensors")
    assert torch.equal(made.tensors["heads"], scores["retrieval"]) and made.header["needles"] == 3
    assert assets.find("razor", loaded[0]).is_file()
    assert (scores["evaluators"] > 0).any(1).sum() == 1
    assert KVCache(loaded[0], "full").shared.fixed == {}


def test_the_map_shows_every_measure(measured: heads.Heads) -> None:
    page = maps.page(measured.scores, "Heads <of> a model")
    assert page.startswith("<!doctype html>") and "Heads &lt;of&gt; a model" in page
    assert all(name.replace("_", " ") in page for name in measured.scores)
    assert "http-equiv" not in page and "<script src" not in page
