"""HeadKV with heads measured where an answer must be reasoned out, not copied.

Beside the answer the text holds a distractor and the logic that tells them apart; a head counts by the
attention it pays to the answer, whether it copies the token or not.

Formula    as headkv, with the profile "retrieval_reasoning"
Units      window: queries and protected newest tokens;  beta: the budget over its part shared by score
Phase      at the prompt, then append
Scope      layer: a count depends on the budget, the prompt's length and the profile
Reduces to headkv for its profile; to full at 100 %
Differs    as headkv
Paper      Fu et al. 2024, arXiv 2410.19258             Confidence  official code
"""

from __future__ import annotations

from keyvalise.recipes import headkv

TEXT = headkv.TEXT.replace("retrieval", "retrieval_reasoning")
ARGUMENTS = headkv.ARGUMENTS
PAPERS = headkv.PAPERS
