"""gradients: who forgets to say that none are wanted gets the same answers."""

from __future__ import annotations

import torch

from keyvalise import KVCache
from tests.support.cases import Case
from tests.support.models import prompts, tiny


def test_recording_changes_no_answer(entry: Case) -> None:
    model, said = tiny("llama", head_dim=32).requires_grad_(True), []
    for records in (False, True):
        cache = KVCache(model, entry.text)
        with torch.set_grad_enabled(records):
            whole = prompts(1, 70)
            logits = [model(ids, past_key_values=cache).logits for ids in whole.split([67, 1, 1, 1], 1)]
        assert logits[-1].requires_grad == records
        said.append(torch.cat(logits, 1).detach())
    assert torch.allclose(*said, atol=1e-5)
