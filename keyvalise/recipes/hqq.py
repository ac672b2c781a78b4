"""Everything stays in four bits, with an offset that lets a few numbers be far off so that most are near.

Rounding between minimum and maximum spends its levels on outliers. Here the offset of every group is moved,
step by step, to where the sum of small powers of all errors is least: an outlier's error counts little more
than any other, and the many lie closer to a level.

Formula    see the part: x̂ = offset + step·q, twenty half-quadratic steps for the offset
Units      bits per number;  group: channels (64, or the head where it is smaller);  residual: the most tokens
           that stay raw
Cost       D·bits/8 + 4·⌈D/group⌉ bytes per key and as many per value, 4 bytes of ordinal
Phase      a token is written when it lies `residual` behind
Scope      per kv head; every entry leaves alone
Reduces to full while nothing has left the raw window; to the integer codes where no step lowers the error
Differs    published for weights; keys and values are written token by token. The best of all steps is kept
Paper      Badri and Shaji 2023, mobiusml.github.io/hqq_blog            Confidence  official code
"""

from __future__ import annotations

TEXT = "hqq(4)"
ARGUMENTS = {
    "bits": ("hqq.bits",),
    "group": ("hqq.group",),
    "residual": ("hqq.residual",),
}
PAPERS = ("badri2023hqq",)
