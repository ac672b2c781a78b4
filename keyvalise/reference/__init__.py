"""The embedded reference model: generated tasks, a small tokenizer and a Llama trained on them.

`reference()` loads model and tokenizer from this package, offline; `tasks` generates documents and questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyvalise.reference import tasks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MODEL_FOLDER", "reference", "tasks"]

MODEL_FOLDER = Path(__file__).parent / "model"


def reference() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The shipped model (eval mode, fp32) and its tokenizer; needs no network."""
    if not (MODEL_FOLDER / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"the reference model's weights are missing: {MODEL_FOLDER / 'model.safetensors'}; "
            "reinstall keyvalise, or train them with `python -m keyvalise.train.reference --out FOLDER`"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, local_files_only=True, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(MODEL_FOLDER, local_files_only=True)
    return model.eval(), tokenizer
