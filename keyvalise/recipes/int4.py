"""Everything stays in four bits: every token by itself, with a range for each group of channels.

The cheapest code that most models hardly notice.

Formula    q = round((x − min)/step) over groups of at most `group` channels of one key or value
Units      group: channels (64, or the head where it is smaller);  residual: the most tokens that stay raw
Cost       D·4/8 + 4·⌈D/group⌉ bytes per key and as many per value, 4 bytes of ordinal
Phase      a token is written when it lies `residual` behind
Scope      per kv head; every entry leaves alone, so that dropping frees its bytes at once
Reduces to full while nothing has left the raw window
Paper      none: round to nearest between minimum and maximum
"""

from __future__ import annotations

TEXT = "int4"
ARGUMENTS = {
    "group": ("int4.group",),
    "residual": ("int4.residual",),
}
PAPERS: tuple[str, ...] = ()
