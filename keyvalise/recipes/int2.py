"""Everything stays in two bits: every token by itself, with a range for each group of channels.

Keys have channels that are large in every token, and one range per token spends its few steps on them:
compare with kivi, which keeps such channels apart.

Formula    q = round((x − min)/step) over groups of at most `group` channels of one key or value
Units      group: channels (64, or the head where it is smaller);  residual: the most tokens that stay raw
Cost       D·2/8 + 4·⌈D/group⌉ bytes per key and as many per value, 4 bytes of ordinal
Phase      a token is written when it lies `residual` behind
Scope      per kv head; every entry leaves alone, so that dropping frees its bytes at once
Reduces to full while nothing has left the raw window
Paper      none: round to nearest between minimum and maximum
"""

from __future__ import annotations

TEXT = "int2"
ARGUMENTS = {
    "group": ("int2.group",),
    "residual": ("int2.residual",),
}
PAPERS: tuple[str, ...] = ()
