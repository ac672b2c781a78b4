"""What the model's own head sees of its prediction in every token, times the length of the token's embedding.

An attribution method used as a score: the last state of every prompt token is asked for the logit of the
token that the prompt predicts. It needs the whole forward: all layers hold the whole prompt until its end.

Formula    ‖embedding‖ · softplus(logit of the final prediction); the first token always stays
Phase      at the prompt, then append
Scope      model; one set for all layers and heads
Reduces to the ranking by last states where all embeddings are equally long; to full at 100 %
Differs    published for classification; keys and values are our application; map=raw is the published form
Paper      Abbasi et al. 2024, arXiv 2411.16252         Confidence  official code, as an attribution
"""

from __future__ import annotations

TEXT = "at prompt: norm_logit > drop(sinks=1) @ 25%"
ARGUMENTS = {"map": ("norm_logit.map",), "sinks": ("drop.sinks",), "recent": ("drop.recent",)}
PAPERS = ("abbasi2024normxlogit",)
