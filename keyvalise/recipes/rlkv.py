"""Heads that long reasoning needs keep everything, the others stream.

As duo, with gates learned by reinforcement on the model's own chains of thought: which heads keep a chain
from breaking is another question than which heads find a needle.

Formula    as duo, with the profile "rlkv", 16 sinks and the 64 newest tokens
Units      sinks, recent: tokens, the newest included;  full: largest share of the heads that keep everything
Phase      at the prompt, then at every step of decoding
Scope      layer: the layout depends on the budget, the tokens seen and the profile
Reduces to duo for its profile, sinks and recents; to full at 100 %
Differs    as duo
Paper      Du et al. 2025, arXiv 2510.08525             Confidence  official code
"""

from __future__ import annotations

from keyvalise.recipes import duo

TEXT = duo.TEXT.replace("duo", "rlkv").replace("sinks=64, recent=256", "sinks=16, recent=64")
ARGUMENTS = duo.ARGUMENTS
PAPERS = ("du2025rlkv",)
