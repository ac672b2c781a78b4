"""The held-out accuracy of the embedded model, as its table lists it."""

from __future__ import annotations

import json
from typing import Any

from keyvalise.reference import MODEL_FOLDER


def rows() -> list[dict[str, Any]]:
    """One row per task, kind and length: task, kind, tokens, accuracy …; none where no table was shipped."""
    table = MODEL_FOLDER / "heldout.json"
    return list(json.loads(table.read_text("utf-8"))) if table.is_file() else []
