"""Models and devices as users name them: the embedded one, a folder, a name on the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    import torch

REFERENCE = "reference"


def model(name: str, device: str, dtype: str = "auto") -> tuple[Any, Any]:
    """(model in evaluation mode on the device, tokenizer); dtype: of the weights, auto as they are stored.

    Raises   InputError where the model, its dtype or the device is not to be had
    """
    place = _device(device)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if name == REFERENCE:
        from keyvalise.reference import reference

        found, tokenizer = reference()
        return found.to(place).eval(), tokenizer
    try:
        found = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot load the model {name!r}: {reason.rstrip('.')}; "
            f"give '{REFERENCE}', a folder with config, weights and tokenizer, or a name on the hub"
        ) from None
    return found.to(place).eval(), tokenizer


def _device(name: str) -> torch.device:
    import torch

    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else "not available"
        raise InputError(
            f"cannot use the device {name!r}: {reason[:120]}; write cpu, cuda, cuda:0 or mps"
        ) from None
    return place
