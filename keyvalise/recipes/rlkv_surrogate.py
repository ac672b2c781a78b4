"""Heads that the model's own right answers need keep everything, the others stream.

As rlkv, with gates that were distilled on right answers of the model itself instead of learned from rewards:
a stand-in that costs a fraction, sees no wrong answer, and is therefore an asset and a name of its own.

Formula    as rlkv, with the profile "rlkv_surrogate": gates that minimise the divergence from the model on
           its own right answers and their mean size
Units      sinks, recent: tokens, the newest included;  full: largest share of the heads that keep everything
Phase      at the prompt, then at every step of decoding
Scope      layer: the layout depends on the budget, the tokens seen and the profile
Reduces to rlkv for its profile; to full at 100 %
Differs    as duo; no reinforcement: what is not needed to repeat a right answer is not paid for
Paper      Du et al. 2025, arXiv 2510.08525 (whose gates it stands in for)      Confidence  reconstruction
"""

from __future__ import annotations

from keyvalise.recipes import rlkv

TEXT = rlkv.TEXT.replace("rlkv", "rlkv_surrogate")
ARGUMENTS = rlkv.ARGUMENTS
PAPERS = rlkv.PAPERS
