"""Everything is kept as it came: the cache that a model has by itself, in segments.

Formula    no stage, no code
Cost       a token's keys and values, nothing else
Reduces to the attention the model had before
Paper      none
"""

from __future__ import annotations

TEXT = ""
ARGUMENTS: dict[str, tuple[str, ...]] = {}
PAPERS: tuple[str, ...] = ()
