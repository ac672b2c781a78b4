"""A cache in a file: cold equals warm in another process, and the command line packs, unpacks and answers."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from keyvalise import KVCache, Recipe
from keyvalise.reference import tasks
from tests.house.checks.source import ROOT
from tests.support import drive
from tests.support.models import tiny

RECIPES = ("full", "adakv(window=7) > adaptive > int8(residual=8, group=8) @ 50%", "h2o @ 20tok")
WIDTHS = (63, 9, 1, 1, 1)

WARM = """
import sys
import torch
torch.set_num_threads(1)
import safetensors.torch
from keyvalise import KVCache
from tests.support import drive
from tests.support.models import tiny

model, fed = tiny("llama"), []
model.get_input_embeddings().register_forward_hook(lambda module, args, out: fed.append(args[0].shape[1]))
found = {}
for i, path in enumerate(sys.argv[2:]):
    cache = KVCache.load(path, model, lazy=bool(i % 2))
    calls = drive.text(75, 55).calls(63, 9, 1, 1, 1)[1:]
    trail = drive.run(model, cache, calls)
    found |= {f"{i}.{j}": logits for j, logits in enumerate(trail.logits)}
found["fed"] = torch.tensor(fed)
safetensors.torch.save_file(found, sys.argv[1])
"""


def test_cold_is_warm_in_another_process(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, calls, cold, paths = tiny("llama"), drive.text(75, 55).calls(*WIDTHS), [], []
        for i, recipe in enumerate(RECIPES):
            cold.append(drive.run(model, KVCache(model, recipe), calls).logits[1:])
            cache = KVCache(model, recipe)
            drive.run(model, cache, calls[:1])
            paths.append(tmp_path / f"{i}.kv")
            cache.save(paths[-1])
    finally:
        torch.set_num_threads(before)
    out = tmp_path / "warm.safetensors"
    code = [sys.executable, "-c", WARM, str(out), *map(str, paths)]
    subprocess.run(code, cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    warm = safetensors.torch.load_file(out)
    for i, logits in enumerate(cold):
        for j, want in enumerate(logits):
            assert torch.equal(warm[f"{i}.{j}"], want), (RECIPES[i], j)
    # A hit, not a second reading: no more was fed to the model than what came behind the file.
    assert warm["fed"].tolist() == list(WIDTHS[1:]) * len(RECIPES)


TASK = tasks.generate("needle", tokens=256, seed=11, kind="dense")
ASKED = TASK.questions[:3]
QUESTIONS = [word for question in ASKED for word in ("--question", question)]
RECIPE = ("--recipe", "keydiff > int8 @ 60%")


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(TASK.document)
    return path


@pytest.fixture
def packed(run, document, tmp_path):
    path = tmp_path / "notes.kv"
    assert run("pack", "--document", document, *RECIPE, "--out", path).code == 0
    return path


def test_a_packed_file_answers_what_its_document_answers(run, document, packed, reference):
    there = run("generate", "--document", document, *RECIPE, *QUESTIONS, "--json").json
    fed = []
    hook = (
        reference[0]
        .get_input_embeddings()
        .register_forward_hook(lambda module, args, out: fed.append(args[0].shape[1]))
    )
    here = run("generate", "--cache", packed, *QUESTIONS, "--json").json
    hook.remove()
    same = ("answers", "parts", "dtype", "seen", "nbytes", "share", "notes")
    assert {name: here[name] for name in same} == {name: there[name] for name in same}
    assert sum(fed) < here["seen"], "the document was read again"
    talk = run("generate", "--cache", packed, *QUESTIONS, "--chat", "--quiet")
    assert talk.code == 0 and len(talk.out.splitlines()) == 3


def test_packing_says_what_it_takes(run, document, tmp_path):
    path = tmp_path / "notes.kv"
    found = run("pack", "--document", document, *RECIPE, "--out", path)
    size = path.stat().st_size
    assert found.out.endswith(f"{path}: {size:,} bytes\n") and found.err == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = run("pack", "--document", document, *RECIPE, "--out", path, "--json").json
    assert data["file_bytes"] == size and 0 < data["nbytes"] < size and data["file"] == str(path)
    quiet = run("pack", "--document", document, *RECIPE, "--out", path, "--quiet")
    assert quiet.out == f"{path}: {size:,} bytes\n"


def test_packing_as_a_bitstream(run, document, packed, tmp_path):
    sizes, said = {}, {}
    plain = run("generate", "--cache", packed, *QUESTIONS, "--json").json["answers"]
    for level in ("lossless", "medium"):
        path = tmp_path / f"{level}.kv"
        data = run("pack", "--document", document, *RECIPE, "--out", path, "--level", level, "--json").json
        sizes[level] = data["file_bytes"]
        said[level] = run("generate", "--cache", path, *QUESTIONS, "--json").json["answers"]
        assert level in run("inspect-cache", path).out
    assert said["lossless"] == plain and sizes["medium"] <= sizes["lossless"] < packed.stat().st_size
    wrong = run("pack", "--document", document, *RECIPE, "--out", tmp_path / "x.kv", "--level", "tiny")
    assert wrong.code == 2 and "unknown level 'tiny'" in wrong.err and not (tmp_path / "x.kv").exists()


def test_unpacking_gives_plain_tensors(run, packed, tmp_path):
    folder = tmp_path / "folder"
    data = run("unpack", packed, "--out", folder, "--json").json
    header = json.loads((folder / "header.json").read_text())
    parts = safetensors.torch.load_file(folder / "cache.safetensors")
    assert {name: list(tensor.shape) for name, tensor in parts.items()} == data["tensors"]
    assert header["recipe"] == data["recipe"] == str(Recipe.parse(RECIPE[1]))
    ids = parts["tokens"].tolist()
    assert len(ids) == data["seen"] == header["tokens"][0]
    for layer in header["layers"]:
        keys, positions = parts[f"layers.{layer}.keys"], parts[f"layers.{layer}.positions"]
        assert keys.shape[:3] == positions.shape and positions.max() == len(ids) - 1
        assert keys[positions < 0].abs().sum() == 0 and keys[positions >= 0].abs().sum() > 0
    said = run("unpack", packed, "--out", folder, "--quiet")
    assert said.out.split() == [str(folder / "cache.safetensors"), str(folder / "header.json")]


def test_looking_into_a_file_needs_no_model(run, packed, document, monkeypatch, capsys):
    from keyvalise.reference import loading

    whole = run("inspect-cache", "--document", document, *RECIPE, "--json").json

    def none(name, device):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "model", none)
    from keyvalise.cli import door

    assert door.run(["inspect-cache", str(packed), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kept"] == whole["kept"] and data["nbytes"] == whole["nbytes"]
    assert data["nbytes"] == sum(line["n_bytes"] for line in data["lines"])
    assert data["file_bytes"] == packed.stat().st_size and data["header"]["seen"] == data["seen"]


def test_looking_into_a_file_for_people(run, packed):
    found = run("inspect-cache", packed)
    lines = found.out.splitlines()
    # A long path is broken where the terminal ends.
    assert "".join(line.strip() for line in lines).startswith(str(packed))
    assert any(line.startswith("recipe") for line in lines)
    assert any(line.split()[:1] == ["all"] for line in lines)
    assert "parts are what was written" in lines[-1]
    assert run("inspect-cache", packed, "--quiet").out.splitlines() == lines[-1:]


def test_a_salt_must_be_said_again(run, document, tmp_path):
    path = tmp_path / "notes.kv"
    run("pack", "--document", document, "--out", path, "--salt", "ours")
    refused = run("generate", "--cache", path, *QUESTIONS)
    assert refused.code == 2 and "its salt is another one" in refused.err
    assert run("generate", "--cache", path, *QUESTIONS, "--salt", "ours").code == 0


WRONG = {
    "no file": (
        ("generate", "--cache", "{dir}/none", *QUESTIONS),
        "cannot read the cache {dir}/none: No such",
    ),
    "a text": (("generate", "--cache", "{doc}", *QUESTIONS), "the cache {doc} is no cache of this library"),
    "file and document": (
        ("generate", "--cache", "{kv}", "--document", "{doc}", *QUESTIONS),
        "--document was settled when {kv} was packed",
    ),
    "file and recipe": (("generate", "--cache", "{kv}", *RECIPE, *QUESTIONS), "--recipe was settled when"),
    "a damaged file": (
        ("generate", "--cache", "{bad}", *QUESTIONS),
        "the cache {bad} is cut off: 9 bytes are",
    ),
    "looking at a damaged file": (("inspect-cache", "{bad}"), "the cache {bad} is cut off: 9 bytes"),
    "looking at both": (
        ("inspect-cache", "{kv}", "--document", "{doc}"),
        "has a document and a recipe of its",
    ),
    "unpacking a text": (("unpack", "{doc}", "--out", "{dir}/out"), "is no cache of this library"),
    "unpacking into a file": (("unpack", "{kv}", "--out", "{doc}"), "cannot write to the folder {doc}"),
    "packing nothing": (("pack", "--out", "{dir}/x.kv"), "no document given"),
    "packing nowhere": (
        ("pack", "--document", "{doc}", "--out", "{dir}/no/x.kv"),
        "there is no folder {dir}/no",
    ),
    "packing to a bucket": (("pack", "--document", "{doc}", "--out", "s3://x/y"), "cannot open s3://x/y: "),
    "an unknown recipe": (
        ("pack", "--document", "{doc}", "--out", "{dir}/x.kv", "--recipe", "snapvk"),
        "nearest: snapkv",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_says_what_is_wrong(run, packed, document, tmp_path, case):
    bad = tmp_path / "bad.kv"
    bad.write_bytes(packed.read_bytes()[:-9])
    names = {"dir": tmp_path, "doc": document, "kv": packed, "bad": bad}
    before = sorted(tmp_path.rglob("*"))
    words, message = WRONG[case]
    found = run(*(word.format(**names) for word in words))
    assert found.code == 2 and found.out == ""
    assert message.format(**names) in found.err
    assert found.err.startswith("keyvalise: ") and found.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["pack", "unpack", "generate", "inspect-cache"])
def test_every_help_has_an_example(run, command):
    found = run(command, "--help")
    assert found.code == 0 and f"Example: keyvalise {command}" in found.out
    assert "--json" in found.out and "--quiet" in found.out
