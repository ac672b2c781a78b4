"""The published score files themselves, where a folder named by KEYVALISE_PROFILES holds them.

Nothing is expected to lie where: every file below the folder is read, and known by its content and name.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from keyvalise.allocate.layers import LayersAllocate
from keyvalise.allocate.proportional import ProportionalAllocate
from keyvalise.store import profile
from keyvalise.store.asset import Asset

FOLDER = os.environ.get("KEYVALISE_PROFILES")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="no folder of published profiles")


def found(pattern: str, *words: str) -> Asset:
    """The one file whose path holds all these words."""
    paths = [p for p in sorted(Path(FOLDER or ".").rglob(pattern)) if all(w in str(p).lower() for w in words)]
    if not paths:
        pytest.skip(f"no file {pattern} of {' '.join(words)}")
    return profile.read(paths[0])


def counts(made: Asset, beta: float) -> torch.Tensor:
    """Capacities of all query heads of a budget of 128 tokens with a window of 8, beside the window."""
    heads = made.tensors["heads"].double()
    part = ProportionalAllocate(beta=beta)
    return part.table(heads, torch.tensor([120 * heads.shape[1]]), torch.tensor([10**6]))[0]


@pytest.mark.parametrize(
    ("model", "kind", "beta", "floor", "most"),
    [
        ("llama", "retrieval_reasoning", 1.005, 1, 1835),
        ("llama", "retrieval_reasoning", 1.5, 40, 1273),
        ("llama", "retrieval_reasoning", 10.0, 108, 293),
        ("llama", "retrieval_heads", 1.005, 1, 6208),
        ("llama", "retrieval_heads", 1.5, 40, 4213),
        ("mistral", "retrieval_reasoning", 1.005, 1, 1955),
        ("mistral", "retrieval_reasoning", 1.5, 40, 1354),
        ("mistral", "retrieval_reasoning", 10.0, 108, 305),
    ],
)
def test_headkv(model: str, kind: str, beta: float, floor: int, most: int) -> None:
    made = found("*.json", "important_head", model, kind)
    got = counts(made, beta)
    assert made.header["form"] == "scores" and got.shape == (32, 32)
    assert abs(int(got.max()) - most) <= 1 and int(got.min()) >= floor
    assert int(got.sum()) == 120 * 1024
    if (model, kind) == ("llama", "retrieval_reasoning"):
        assert divmod(int(got.argmax()), 32) == (15, 30)


def test_compresskv() -> None:
    made = found("*layer_score*", "llama")
    table = LayersAllocate().table(
        made.tensors["layers"], torch.tensor([256]), torch.tensor([8]), torch.tensor([10**6])
    )
    assert made.header["form"] == "errors"
    assert table[0].tolist() == [
        *(164, 168, 292, 234, 233, 296, 219, 252, 350, 338, 346, 315, 162, 340, 300, 302),
        *(249, 286, 280, 292, 333, 213, 280, 301, 276, 239, 235, 261, 191, 163, 199, 83),
    ]
    ranks = found("*head_idx*", "llama")
    assert ranks.header["form"] == "ranks" and ranks.tensors["heads"].shape == (32, 32)


@pytest.mark.parametrize(
    ("model", "want"),
    [
        ("llama-2-7b", (0.000, 0.237, 0.941)),
        ("1048k", (0.717, 0.961, 1.0)),
        ("llama-3.1-8b", (0.841, 0.951, 0.996)),
        ("mistral-7b-instruct-v0.2", (0.961, 0.996, 1.0)),
    ],
)
def test_duo(model: str, want: tuple[float, ...]) -> None:
    made = found("full_attention_heads.tsv", "attn_patterns", model)
    quantiles = made.tensors["heads"].flatten().quantile(torch.tensor([0.25, 0.5, 0.75]))
    assert made.header["form"] == "gates"
    assert [round(x, 3) for x in quantiles.tolist()] == pytest.approx(want, abs=2e-3)


def test_rlkv() -> None:
    for model, share in (("llama", 0.648), ("qwen-2.5", 0.893), ("qwen-3", 0.590)):
        gates = found("adapter_weights.tsv", "rlkv/", model).tensors["heads"]
        assert float((gates > 0.5).float().mean()) == pytest.approx(share, abs=2e-3)
        assert float(gates.min()) >= 0 and float(gates.max()) <= 1


def test_prefixkv() -> None:
    made = found("prefixkv*7b*0.5*.json")
    dropped = made.tensors["layers"]
    assert made.kind == "dropped" and int(dropped.argmin()) == 0 and int(dropped.argmax()) == 21
    assert float(dropped.min()) == pytest.approx(0.114, abs=1e-3)
    assert float(dropped.max()) == pytest.approx(0.765, abs=1e-3)
    assert float(dropped.mean()) == pytest.approx(0.499, abs=1e-3)
