"""The one table of tolerances; no test carries a number of its own.

Every entry bounds |got − want| by a share of the largest |want|: a bound means the same whatever the scale.

Derivation of the 16-bit bounds
    Rounding to the nearest number with p significant bits errs by at most u = 2^−p of the number: 2^−8 in
    bf16, 2^−11 in fp16. One evaluation of a model rounds the path to a logit about r = 4·L + 2 times: in each
    of L layers the output of attention and its sum with the residual stream, the output of the feed-forward
    part and its sum, then the final norm and the unembedding. Norms keep the scale between them, so an error
    is taken to be carried on, not grown, and r roundings add up to at most r·u. Two evaluations differ by at
    most the sum of both, 2·r·u. A worst case: roundings that fall at random stay near the square root of r.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT_ROUNDOFF = {"fp32": 2.0**-24, "bf16": 2.0**-8, "fp16": 2.0**-11}
"""Largest relative error of one rounding to the nearest."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|got − want| ≤ `share` · max |want|."""

    share: float
    why: str


def roundings(n_layers: int) -> int:
    """How often the path to a logit is rounded in one evaluation."""
    return 4 * n_layers + 2


def logits_share(dtype: str, n_layers: int) -> float:
    """Two evaluations of the same model in `dtype`: 2·r·u of the largest logit."""
    return 2 * roundings(n_layers) * UNIT_ROUNDOFF[dtype]


def half_step(low: float, high: float, bits: int) -> float:
    """Largest error of rounding a number in [low, high] to the nearest of 2^bits even levels."""
    return (high - low) / (2**bits - 1) / 2


N_LAYERS = 4
"""Depth of the deepest model the laws run on; the bounds below are for it."""

TOLERANCES = {
    "exact": Tolerance(0.0, "the same operations in the same order"),
    "logits_fp32": Tolerance(
        1e-5, "the promise of the project; 2·r·u is 2e-6 for 4 layers, the rest is summation"
    ),
    "logits_coded": Tolerance(
        1e-2,
        "a number on the edge of two codes may fall on either side; kept sets are compared exactly beside it",
    ),
    "logits_bf16": Tolerance(logits_share("bf16", N_LAYERS), "2·r·u"),
    "logits_fp16": Tolerance(logits_share("fp16", N_LAYERS), "2·r·u"),
    "attention_fp32": Tolerance(1e-5, "one attention in float32 whose sums run in another order"),
    "attention_bf16": Tolerance(
        4 * UNIT_ROUNDOFF["bf16"], "queries, keys, values and output, each rounded once"
    ),
    "attention_fp16": Tolerance(
        4 * UNIT_ROUNDOFF["fp16"], "queries, keys, values and output, each rounded once"
    ),
    "score_fp32": Tolerance(1e-5, "scores within this of the threshold may change places"),
    "fp64": Tolerance(1e-12, "float64 against float64 in another order"),
}
