"""Sine and cosine as polynomials: what compiled readers that turn keys themselves have in common.

Formula  y = half of what a phase exceeds whole turns, |y| ≤ π/2, z = y²;
         sin y ≈ y + y·z·(S0 + S1·z + S2·z² + S3·z³),  cos y ≈ 1 + z·(C0 + C1·z + … + C4·z⁴);
         sin 2y = 2·sin y·cos y,  cos 2y = 1 − 2·sin² y
Numbers  in float32, whole turns taken away in float64: errors of at most 5·10⁻⁷
Source   Chebyshev fits made for this file, of (sin y / y − 1) / y² and (cos y − 1) / y² in y²
"""

from __future__ import annotations

import math

TURNS = 0.5 / math.pi
"""Turns of one radian."""

SINE = (-0.16666666, 8.33324234e-3, -1.98227613e-4, 2.63481538e-6)
COSINE = (-0.5, 4.16666594e-2, -1.38886520e-3, 2.47746005e-5, -2.62979384e-7)
