"""The shipped model loads by the standard classes and answers held-out questions about long documents."""

import importlib
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from keyvalise.reference import evaluate, tasks

# `keyvalise.reference` is also the name of the package's function of that name.
package = importlib.import_module("keyvalise.reference")


@pytest.fixture(scope="module")
def loaded():
    return package.reference()


def test_the_standard_classes_load_it(loaded):
    model = AutoModelForCausalLM.from_pretrained(package.MODEL_FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(package.MODEL_FOLDER)
    assert isinstance(model, LlamaForCausalLM)
    assert sum(weight.numel() for weight in model.parameters()) <= 3_000_000
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer("mira tolan").input_ids == loaded[1]("mira tolan").input_ids


def test_generate_stops_after_the_answer(loaded):
    model, tokenizer = loaded
    task = tasks.generate("needle", tokens=512, seed=3)
    inputs = tokenizer(f"{task.document} {task.questions[0]}", return_tensors="pt")
    out = model.generate(**inputs)
    answer = tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    assert answer.strip() == task.answers[0]


@pytest.mark.parametrize(("name", "kind", "tokens"), [("needle", "sparse", 1024), ("records", "dense", 1024)])
def test_it_answers_held_out_questions(loaded, name, kind, tokens):
    row = evaluate.row(loaded[0], name, kind, tokens, n_documents=12)
    assert row["accuracy"] >= 0.85


def test_missing_weights_are_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(package, "MODEL_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"weights are missing: .*keyvalise.train.reference"):
        package.reference()


def test_importing_the_package_loads_no_torch():
    code = "import sys, keyvalise.reference; print('transformers' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.slow
def test_training_resumes_from_weights_alone(tmp_path):
    command = [sys.executable, "-m", "keyvalise.train.reference", "--minutes", "0.02", "--length", "128"]
    first, second = tmp_path / "first", tmp_path / "second"
    subprocess.run([*command, "--out", str(first)], check=True, capture_output=True)
    subprocess.run([*command, "--out", str(second), "--resume", str(first)], check=True, capture_output=True)
    weights = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (first, second)]
    assert not torch.equal(weights[0]["lm_head.weight"], weights[1]["lm_head.weight"])
