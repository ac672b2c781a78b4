"""Everything stays in eight bits: every token by itself, with a range for each group of channels.

Near enough to the numbers themselves that only bytes tell the two apart.

Formula    q = round((x − min)/step) over groups of at most `group` channels of one key or value
Units      group: channels (64, or the head where it is smaller);  residual: the most tokens that stay raw
Cost       D·8/8 + 4·⌈D/group⌉ bytes per key and as many per value, 4 bytes of ordinal
Phase      a token is written when it lies `residual` behind
Scope      per kv head; every entry leaves alone, so that dropping frees its bytes at once
Reduces to full while nothing has left the raw window
Paper      none: round to nearest between minimum and maximum
"""

from __future__ import annotations

TEXT = "int8"
ARGUMENTS = {
    "group": ("int8.group",),
    "residual": ("int8.residual",),
}
PAPERS: tuple[str, ...] = ()
