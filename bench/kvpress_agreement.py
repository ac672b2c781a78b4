"""Do the recipes keep what the same methods of the kvpress package keep, on one model file and documents?

    python bench/kvpress_agreement.py [CASE …] [--again] [--list]

kvpress needs an older transformers, so it runs in an environment of its own: `python bench/rivals.py` makes
one, KVPRESS_PYTHON=…/bin/python names another. Every recipe is asked for exactly the count that the press
kept; agreement is the share of the press's positions that the recipe keeps too, per document, layer and kv
head.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cases
import models
import rivals
import torch
from transformers import AutoModelForCausalLM

from keyvalise.host import answer
from keyvalise.reference import MODEL_FOLDER

LENGTHS, RATIOS, LEAST, WINDOW = (130, 517, 1024), (0.5, 0.9), 0.97, 32

RECIPES = {
    "streaming": "streaming(sinks=4)",
    "observed": "observed",
    "snapkv": "snapkv(window=32, pool=5)",
    "tova": "tova",
    "tova, newest kept": "tova(recent=1)",
    "knorm": "knorm",
    "keydiff": "keydiff",
}
"""Row → recipe; the press is the row's name up to the comma."""


def random_model(folder: Path) -> Path:
    """A saved Llama of random weights with sharper attention than fresh ones have."""
    model = models.llama(models.Shape(4, 8, 4, 32, 192))
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.q_proj.weight.mul_(6)
            block.self_attn.k_proj.weight.mul_(6)
    model.save_pretrained(folder)
    return folder


def random_documents() -> list[list[int]]:
    """Random ids, one document per length."""
    return [models.tokens(n, seed=n)[0].tolist() for n in LENGTHS]


def written_documents() -> list[list[int]]:
    """Documents of the reference tasks, cut to the same lengths."""
    from transformers import AutoTokenizer

    from keyvalise.reference import tasks

    tokenizer = AutoTokenizer.from_pretrained(MODEL_FOLDER, local_files_only=True)
    text = tasks.generate("needle", tokens=1100, seed=7).document
    ids = tokenizer(text).input_ids
    return [ids[:n] for n in LENGTHS]


def pressed(folder: Path, documents: list[list[int]]) -> list[dict[str, Any]]:
    """What every press keeps of every document."""
    presses = dict.fromkeys(row.split(",")[0] for row in RECIPES)
    asks = [(press, ratio, WINDOW) for press in presses for ratio in RATIOS]
    return asked({"model": str(folder), "documents": documents, "asks": [asks] * len(documents)})


def asked(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What the other side answers to a request."""
    python = rivals.kvpress_python()
    with tempfile.TemporaryDirectory() as place:
        question, reply = Path(place) / "request.json", Path(place) / "answer.json"
        question.write_text(json.dumps(request))
        script = Path(__file__).with_name("kvpress_side.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        run = [str(python), str(script), str(question), str(reply)]
        done = subprocess.run(run, capture_output=True, text=True, env=environment | {"HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise RuntimeError(f"kvpress failed: {done.stderr.strip().splitlines()[-1:]}")
        return json.loads(reply.read_text())


def shares(model: Any, recipe: str, ids: list[int], theirs: list[list[list[int]]]) -> list[float]:
    """Agreement per layer and head."""
    n_kept = len(theirs[0][0])
    cache = answer.read(model, torch.tensor([ids]), f"{recipe} @ {n_kept}tok")
    found = []
    for layer, heads in enumerate(theirs):
        ours = cache.kept_positions(layer)[0]
        found += [len(set(a) & set(b)) / n_kept for a, b in zip(ours, heads, strict=True)]
    return found


def agreement(source: str) -> cases.Figure:
    """One row per recipe: mean and least agreement over documents, ratios, layers and heads."""
    with tempfile.TemporaryDirectory() as place:
        if source == "random":
            folder, documents = random_model(Path(place)), random_documents()
        else:
            folder, documents = MODEL_FOLDER, written_documents()
        answers = pressed(folder, documents)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="float32").eval()
        sides, targets, notes = {}, [], []
        for row, recipe in RECIPES.items():
            mine, detail = [], {}
            for a in answers:
                n, n_kept = len(documents[a["document"]]), len(a["kept"][0][0])
                if a["press"] != row.split(",")[0]:
                    continue
                where = f"{n} tokens, {n_kept} kept"
                if row == "snapkv" and n_kept <= 32:
                    notes.append(f"snapkv, {where}: left out, fewer are kept than its window protects")
                    continue
                found = shares(model, recipe, documents[a["document"]], a["kept"])
                detail[where] = {"mean": round(statistics.fmean(found), 4), "least": round(min(found), 4)}
                mine += found
            least = min(mine)
            sides[row] = {
                "agreement": statistics.fmean(mine),
                "least": least,
                "heads": len(mine),
                "detail": detail,
            }
            what = f"kvpress {row}, {source} model: agreement"
            targets.append(cases.Target(what, sides[row]["agreement"], LEAST, at_least=True))
    return cases.Figure(
        {"model": source, "lengths": LENGTHS, "ratios": RATIOS, "dtype": "fp32"}, sides, targets, notes
    )


CASES = {name: partial(agreement, name) for name in ("random", "reference")}

if __name__ == "__main__":
    sys.exit(cases.main("kvpress", CASES))
