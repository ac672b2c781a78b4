"""Neighbouring layers know much of one another: only what the one below cannot tell is written.

Two linear maps per layer, fitted once, foretell keys from the keys below, and values from the layer's own
keys and the values below, all as they are read again; what is left is mixed by a Hadamard matrix and written
in two bits.

Formula    k̃ = A·k̂_below + a, k̂ = k̃ + Q(k − k̃);  ṽ = B·[k̂; v̂_below] + b, v̂ = ṽ + Q(v − ṽ)
Units      residual: tokens that stay raw;  bits, first: above and in the lowest layer
Cost       predictors of (H·D)² and 2·(H·D)² numbers per layer, 16 bits each, beside the model; reading
           multiplies by them, and holds one layer whole
Phase      when tokens leave the raw residual, in all layers at once
Scope      all heads of all layers keep the same tokens
Reduces to raw entries for residual ≥ tokens
Differs    predictors are trained on generated text, or on the user's. The lowest layer knows its mean; first
           tokens are coded like others
Paper      Shutova et al. 2025, arXiv 2501.19392         Confidence  official code
"""

from __future__ import annotations

TEXT = "aquakv(2)"
ARGUMENTS = {
    "bits": ("aquakv.bits",),
    "first": ("aquakv.first",),
    "residual": ("aquakv.residual",),
    "predictors": ("aquakv.predictors",),
}
PAPERS = ("shutova2025aquakv",)
