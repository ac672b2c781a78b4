"""Every mode on every family: what transformers' own cache can do there, ours does, or says why not.

The slow test writes the table's cells into docs/results/families; `make docs` makes docs/families.md of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from tests.support import bystanders, drive, judge
from tests.support.judge import Outcome
from tests.support.models import CONFIGS
from tests.support.modes import BY_NAME, MODES

FOLDER = Path(__file__).parents[2] / "docs" / "results" / "families"
QUICK = ("left-padded batch, two turns", "KVCache(prefill_chunk)")
CHECKS = (*bystanders.UNTOUCHED, *bystanders.REFUSED)


def wrong(cells: dict[str, dict[str, Outcome]]) -> list[str]:
    """The cells that the library gets wrong."""
    return [
        f"{mode}, {recipe}: {outcome}"
        for mode, row in cells.items()
        for recipe, outcome in row.items()
        if isinstance(outcome, str) and outcome.startswith("wrong")
    ]


@pytest.mark.parametrize("mode", BY_NAME)
def test_every_mode_on_llama(mode: str) -> None:
    row = judge.judge("llama", BY_NAME[mode])
    assert "stock" not in row, row
    assert not wrong({mode: row})


@pytest.mark.parametrize("check", [check for check in CHECKS if "compile" not in check])
def test_nobody_else_is_touched_on_llama(check: str) -> None:
    outcome = bystanders.outcome("llama", check)
    assert outcome == 0.0 if check in bystanders.UNTOUCHED else str(outcome).startswith("refused")


@pytest.mark.parametrize("family", [family for family in CONFIGS if family != "llama"])
def test_two_modes_on_every_family(family: str) -> None:
    assert not wrong({mode: judge.judge(family, BY_NAME[mode]) for mode in QUICK})
    assert not wrong({"building": bystanders.builds(family)})


def test_wrong_cells_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mode = BY_NAME["crop"]
    model = judge.model_of("qwen3", mode)
    stock = judge.play(model, transformers.DynamicCache(config=model.config), mode)
    assert isinstance(judge.outcome("qwen3", mode, "full", stock), float)
    stock.tape.steps[2] = replace(stock.tape.steps[2], logits=stock.tape.steps[2].logits + 1)
    assert "wrong: off by" in str(judge.outcome("qwen3", mode, "full", stock))
    assert "wrong: refused" in str(judge.outcome("qwen3", mode, "snapkv @ 1tok", stock))
    assert "nothing was dropped" in str(judge.outcome("qwen3", mode, "knorm @ 100%", stock))
    held = drive.held
    monkeypatch.setattr(
        drive,
        "held",
        lambda cache: {i: [[h[:-1] for h in r] for r in rows] for i, rows in held(cache).items()},
    )
    assert "wrong: off by" in str(judge.outcome("qwen3", mode, "knorm @ 40%", stock))


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_every_mode(family: str) -> None:
    cells: dict[str, dict[str, Outcome]] = {mode.name: judge.judge(family, mode) for mode in MODES}
    cells |= {check: {"full": bystanders.outcome(family, check)} for check in CHECKS}
    found = {
        "model": CONFIGS[family][1],
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
        "layers": judge.layers(family),
        "building": bystanders.builds(family),
        "modes": cells,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{family}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert not wrong({**cells, "building": bystanders.builds(family)})
