"""Documents, dtypes, devices and lengths that a user names."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from keyvalise.cli import inputs
from keyvalise.reference import loading
from keyvalise.types.errors import InputError
from tests.support import models


def test_documents_are_joined_in_order(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes("\ufeffeins\r\n".encode())
    (tmp_path / "b").write_text("zwei\n\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" drei ")))
    assert inputs.documents([str(tmp_path / "a"), "-", str(tmp_path / "b")]) == "eins\n\ndrei\n\nzwei"


def test_empty_standard_input_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(InputError, match="the document standard input is empty"):
        inputs.documents(["-"])


def test_auto_is_a_16_bit_dtype():
    wide, narrow = models.tiny("llama"), models.tiny("llama", torch.bfloat16)
    assert inputs.dtype("auto", wide) is torch.float16
    assert inputs.dtype("auto", narrow) is torch.bfloat16
    assert inputs.dtype("float32", narrow) is torch.float32
    with pytest.raises(InputError, match="unknown dtype 'half'"):
        inputs.dtype("half", wide)


def test_what_fits_and_what_does_not():
    model = models.tiny("llama")  # 512 positions
    inputs.fits(model, 500, 5, 7)
    with pytest.raises(
        InputError, match=r"document \(500\), question \(5\) and answer \(8\) make 513 tokens"
    ):
        inputs.fits(model, 500, 5, 8)


def test_the_embedded_configuration_is_read_without_transformers():
    from keyvalise.types.geometry import Geometry

    geometry = Geometry.of(inputs.config(loading.REFERENCE), torch.float16)
    assert (geometry.n_layers, geometry.n_kv_heads, geometry.key_dim) == (4, 4, 32)
    with pytest.raises(InputError, match="cannot read the configuration of"):
        inputs.config("no/such/folder/at/all")
