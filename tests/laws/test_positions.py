"""positions: an entry's place outlives evictions, forks, crops and beams; by slot only distances of slots
count.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

import keyvalise
from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny


def test_beams_carry_their_own_past(case: Case) -> None:
    model, text = case.model, drive.text(68, 47)
    first, *rest = text.calls(63, 1, 1, 1, 1, 1)
    order = torch.tensor([1, 0, 1])
    cache = KVCache(model, case.text)
    drive.run(model, cache, [first])
    cache.batch_select_indices(order)
    moved = [drive.Call(call.ids[order], call.mask[order], call.positions[order]) for call in rest]
    got = drive.run(model, cache, moved)
    for row, source in enumerate(order.tolist()):
        pad = text.pads[source]
        alone = drive.run(model, KVCache(model, case.text), text.row(source).calls(63 - pad, *[1] * 5))
        for i in range(5):
            assert_close(got.logits[i][row], alone.logits[i + 1][0], case.bound, what=f"row {row}, step {i}")
            assert all(rows[row] == alone.kept[i + 1][layer][0] for layer, rows in got.kept[i].items())


def test_a_fork_and_a_crop_keep_their_places(case: Case) -> None:
    model, text = case.model, drive.text(70)
    first, *rest = text.calls(63, 1, 1, 1)
    straight = drive.run(model, KVCache(model, case.text), [first, *rest])
    cache = KVCache(model, case.text)
    cache.prompt_ends(63)
    cache.activate_past_recording()
    drive.run(model, cache, [first])
    drive.run(model, cache, drive.text(70, seed=9).calls(63, 5)[1:])
    twin = cache.fork()
    for one in (twin, cache):
        one.crop(-5)
        for i, call in enumerate(rest):
            assert_close(
                drive.run(model, one, [call]).logits[0], straight.logits[i + 1], case.bound, what=f"{i}"
            )
            one.crop(0)


@functools.cache
def shallow() -> Any:
    """One layer of the tiny Llama: its keys and values are made of a token and its place alone."""
    keyvalise.detach(tiny("llama"))
    model = copy.deepcopy(tiny("llama"))
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    return model


def stock(ids: Tensor, positions: list[int]) -> Tensor:
    """Logits of the last of these tokens [n] at these places, by the model alone."""
    ids, mask = ids[None], torch.ones_like(ids)[None]  # without a mask, gaps would mean texts packed together
    with torch.no_grad():
        out = shallow()(ids, attention_mask=mask, position_ids=torch.tensor([positions]), use_cache=False)
    return out.logits[0, -1]


@pytest.mark.parametrize("places", ["absolute", "slot"])
@pytest.mark.parametrize(
    "text",
    [
        "streaming(sinks=3, positions={}) @ 13tok",
        "at prompt: recency > drop(sinks=2, positions={}) @ 20tok",
        "at prompt, every 7: recency > drop(sinks=2, positions={}) @ 9tok",
    ],
)
def test_kept_tokens_stand_where_they_stood_or_at_their_slots(text: str, places: str) -> None:
    model, prompt = shallow(), drive.text(61)
    cache = KVCache(model, text.format(places))
    *calls, last = prompt.calls(49, *[1] * 6, 5, 1)
    drive.run(model, cache, calls)
    kept = cache.kept_positions(0)[0][0]
    assert len(kept) < 50
    (got,) = drive.run(model, cache, [last]).logits
    ids = prompt.ids[0, [*kept, 60]]
    at = {"absolute": [*kept, 60], "slot": list(range(len(kept) + 1))}
    assert_close(got[0, 0], stock(ids, at[places]), "logits_fp32")
    other = "slot" if places == "absolute" else "absolute"
    with pytest.raises(AssertionError, match="off by"):
        assert_close(got[0, 0], stock(ids, at[other]), "logits_fp32")


def test_by_slot_padding_and_length_do_not_matter() -> None:
    model, recipe = shallow(), "streaming(sinks=3, positions=slot) @ 13tok"
    text = drive.text(61, 40)
    batch = drive.run(model, KVCache(model, recipe), text.calls(55, *[1] * 6))
    for row, pad in enumerate(text.pads):
        alone = drive.run(model, KVCache(model, recipe), text.row(row).calls(55 - pad, *[1] * 6))
        for a, b in zip(batch.logits[1:], alone.logits[1:], strict=True):
            assert_close(a[row], b[0], "logits_fp32")
