"""Classes of tokens, as the reference tokenizer and added markers say."""

from __future__ import annotations

import torch

import keyvalise
from keyvalise.host import assets
from keyvalise.inspect import classes
from keyvalise.reference.tokenizer import build_tokenizer
from keyvalise.store import asset


def test_special_and_punctuation_come_from_the_tokenizer() -> None:
    tokenizer = build_tokenizer()
    table = classes.of(tokenizer)
    assert (table == classes.SPECIAL).nonzero().flatten().tolist() == sorted(tokenizer.all_special_ids)
    for text, kind in ((".", 2), ("?", 2), ("the", 0), ("7", 0)):
        assert int(table[tokenizer.convert_tokens_to_ids(text)]) == kind


def test_added_markers_are_special_whatever_their_id() -> None:
    tokenizer = build_tokenizer()
    before = len(tokenizer)
    tokenizer.add_tokens(["[turn]"])
    table = classes.of(tokenizer, before + 30)
    assert len(table) == before + 30
    assert table[before:].tolist() == [1] + [0] * 29


def test_signs_alone_are_punctuation() -> None:
    said = {".": True, " ),": True, "…": True, "$": True, "": False, " ": False, "a.": False, "7": False}
    assert {text: classes.is_punctuation(text) for text in said} == said


def test_the_shipped_classes_are_the_tokenizers(tmp_path: object) -> None:
    model, tokenizer = keyvalise.reference()
    shipped = asset.read(assets.SHIPPED / assets.fingerprint(model) / "classes.safetensors")
    made = asset.read(classes.save(model, tokenizer, tmp_path))  # type: ignore[arg-type]
    assert made.kind == shipped.kind == "classes" and made.header == shipped.header
    assert torch.equal(made.tensors["classes"], shipped.tensors["classes"])
    assert made.tensors["classes"].dtype == torch.int8
