"""Everything stays in two bits: keys share their range per channel, values per token, the newest stay raw.

Keys have channels that are large in every token, values do not; so the range of a key is taken along its
channel and outliers keep to themselves.

Formula    see the part: q = round((x − min)/step), keys over `group` tokens, values over `group` channels
Units      bits per number;  group: tokens, or channels of a value;  residual: the most tokens that stay raw
Cost       2·bits/16 of the cache, 4·D/group bytes of parameters per key and as many per value, 4 bytes of
           ordinal
Phase      a group of tokens is written when it lies `residual` behind
Scope      per kv head
Reduces to full while nothing has left the raw window
Differs    key and value leave the raw window together; residual shrinks in whole groups where a budget asks
Paper      Liu et al. 2024, arXiv 2402.02750            Confidence  official code
"""

from __future__ import annotations

TEXT = "kivi(2)"
ARGUMENTS = {
    "bits": ("kivi.bits",),
    "group": ("kivi.group",),
    "residual": ("kivi.residual",),
}
PAPERS = ("liu2024kivi",)
