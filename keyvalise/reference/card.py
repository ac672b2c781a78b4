"""The model card and the accuracy table in the docs, written from `heldout.json` beside the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyvalise.reference import tasks

BEGIN, END = "<!-- accuracy: generated from heldout.json -->", "<!-- end of accuracy -->"

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Keyvalise reference model

A Llama of {millions:.2f} M parameters ({layers} layers, {hidden} wide, {heads} query heads over {kv_heads} kv
heads of {head_dim}, own vocabulary of {vocabulary} words) that answers questions about long generated
documents. It is made for measuring what the compression of keys and values loses; it knows no language beyond
its templates.

    document + " question : the code of mira tolan is"  ->  "47 12"

The text is lower case with a space between all tokens. `<s>` stands once at the start, the answer ends with
`</s>`. Documents, questions and the split come from `keyvalise.reference.tasks`; weights from
`python -m keyvalise.train.reference`. Trained on lengths up to 4,096 tokens.

## Tasks

{tasks}

## Held-out accuracy

Exact match, greedy, questions asked one at a time after the document; names, numbers and sentence patterns
that training never wrote. *Sparse*: at most 3 % of the tokens can be asked. *Dense*: at least 25 %.

{table}
"""


def card(settings: Any, n_parameters: int, rows: Sequence[dict[str, Any]]) -> str:
    """The text of the model card."""
    return CARD.format(
        millions=n_parameters / 1e6,
        layers=settings.num_hidden_layers,
        hidden=settings.hidden_size,
        heads=settings.num_attention_heads,
        kv_heads=settings.num_key_value_heads,
        head_dim=settings.head_dim,
        vocabulary=settings.vocab_size,
        tasks="\n".join(f"- `{name}`: {what}" for name, what in tasks.DESCRIPTIONS.items()),
        table=markdown(rows),
    )


def save_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the rows into `heldout.json` (a row replaces its predecessor), write the card; all rows."""
    from transformers import AutoModelForCausalLM

    file = folder / "heldout.json"
    before = json.loads(file.read_text()) if file.is_file() else []
    merged = {_place(one): one for one in [*before, *rows]}
    ordered = [merged[place] for place in sorted(merged)]
    file.write_text(json.dumps(ordered, indent=1) + "\n")
    model = AutoModelForCausalLM.from_pretrained(folder)
    n_parameters = sum(weight.numel() for weight in model.parameters())
    (folder / "README.md").write_text(card(model.config, n_parameters, ordered))
    return ordered


def _place(one: dict[str, Any]) -> tuple[int, int, int]:
    return one["tokens"], tasks.KINDS.index(one["kind"]), tasks.names().index(one["task"])


def write_table(page: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the table between the two marks of a Markdown page."""
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{rest.split(END)[1]}")


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| task | kind | tokens | questions | right | 95 % interval |", "|---|---|---:|---:|---:|---|"]
    for one in rows:
        interval = f"{one['low']:.1%} - {one['high']:.1%}"
        cells = (
            one["task"],
            one["kind"],
            one["tokens"],
            one["questions"],
            f"{one['accuracy']:.1%}",
            interval,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
