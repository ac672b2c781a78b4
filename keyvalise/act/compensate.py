"""Losers leave one mean entry behind, for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from keyvalise.ops import mass, merging, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount


@dataclass(frozen=True, slots=True)
class CompensateAct:
    """Every head remembers the mean key and value of all it ever dropped, and how many they were.

    Shapes     the choice passes unchanged; sketch keys [B, H, 1, D], values [B, H, 1, Dv] in the stored
               dtype, logw float32 [B, H, 1], −inf where nothing was dropped
    Formula    k̂ ← (N·k̂ + Σ m_t·k_t)/(N + Σ m_t), v̂ likewise, N ← N + Σ m_t over the newly dropped, m_t = 1
               or exp of their log-weight; logw = log N: the entry weighs N·exp(scale·q·k̂)
    Units      sinks, recent: tokens per kv head, or a share of the count; always kept, inside the budget
    Cost       T·(D + Dv) time; one raw entry and 4 bytes of log-weight per kv head
    Scope      per kv head
    Reduces to attention over everything where all dropped keys of a head are equal; else the entry weighs
               less than what it stands for (Jensen), and drop is what it becomes where it weighs nothing
    Differs    keys are averaged as they are stored, rotated; the mean is rounded to the stored dtype at every
               decision. Tokens that a crop takes back stay in the mean unless they were drafts
    Paper      Tang et al. 2024, arXiv 2407.15891           Confidence  reconstruction
    """

    sinks: Amount = arg(0, low=0, doc="first tokens that always stay", is_window=True)
    recent: Amount = arg(0, low=0, doc="last tokens that always stay", is_window=True)

    name: ClassVar[str] = "compensate"
    room: ClassVar[str] = "act"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    changes_keepers: ClassVar[bool] = False

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]:
        counts = torch.where(entries.live & ~choice.keep, merging.counts(entries), 0.0)
        keys, values = (
            (x * counts[..., None]).sum(2, keepdim=True)
            for x in (mass.clean_keys(entries), weigh.clean_values(entries))
        )
        n_new = counts.sum(-1, keepdim=True)
        n_old = torch.zeros_like(n_new) if own is None else merging.weights(own.logw)
        total = n_old + n_new
        if own is not None:
            keys = keys + own.keys.float() * n_old[..., None]
            values = values + own.values.float() * n_old[..., None]
        weight = total.clamp(min=torch.finfo(total.dtype).tiny)[..., None]
        keys = (keys / weight).to(entries.keys().dtype)
        values = (values / weight).to(entries.values().dtype)
        sketch = Sketch(keys, values, total.log())
        if own is None:
            return choice, sketch
        is_same = n_new == 0
        return choice, Sketch(
            torch.where(is_same[..., None], own.keys, keys),
            torch.where(is_same[..., None], own.values, values),
            torch.where(is_same, own.logw, sketch.logw),
        )

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        return geometry.n_kv_heads * (geometry.entry_bytes + 4) if kept < seen else 0
