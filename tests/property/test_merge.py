"""Attention over entries split in any way, merged in any order and any brackets, is one softmax over all.

Logits are whole multiples of a step, so that float32 holds them exactly up to 10⁴, and bfloat16 the queries
and keys they come from; what is left is the rounding of the log-sum-exps that merging goes through.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.ops import attend
from tests.property.lengths import at_length
from tests.support.tolerances import TOLERANCES, UNIT_ROUNDOFF

N_HEADS, GROUP, DIM, SCALE = 2, 3, 6, 0.25
LARGEST = {"calm": 4, "loud": 129}
"""Largest whole number in queries and keys; 129 · 129 · 6 / 4 logits reach beyond 10⁴."""

DTYPES = {torch.float32: "attention_fp32", torch.bfloat16: "attention_bf16"}
Answer = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Attended:
    """One attention: q [B, Hq, S, D], k [B, H, T, D], v [B, H, T, Dv], logw [B, H, T] or None."""

    q: Tensor
    k: Tensor
    v: Tensor
    logw: Tensor | None
    softcap: float | None

    def part(self, members: Tensor) -> Answer:
        """Where bool [B, H, T] is true: dense where all heads have the same ones, else ragged."""
        options: dict[str, Any] = {"scale": SCALE, "softcap": self.softcap}
        if bool((members == members[:1, :1]).all()):
            mine = members[0, 0]
            bias = None if self.logw is None else self.logw[:, :, None, mine]
            return attend.dense(self.q, self.k[:, :, mine], self.v[:, :, mine], bias=bias, **options)
        bounds = [0, *members.sum(-1).flatten().cumsum(0).tolist()]
        logw = None if self.logw is None else self.logw[members]
        return attend.ragged(self.q, self.k[members], self.v[members], bounds=bounds, logw=logw, **options)

    def reference(self) -> Answer:
        """The definition in float64; a query that sees nothing answers (0, −inf)."""
        keys, values = (x.double().repeat_interleave(GROUP, 1) for x in (self.k, self.v))
        logits = SCALE * self.q.double() @ keys.transpose(-1, -2)
        if self.softcap is not None:
            logits = self.softcap * (logits / self.softcap).tanh()
        if self.logw is not None:
            logits = logits + self.logw.double().repeat_interleave(GROUP, 1)[:, :, None]
        lse = logits.logsumexp(-1)
        return (logits - lse.nan_to_num(neginf=0.0)[..., None]).exp() @ values, lse


@st.composite
def attended(draw: st.DrawFn) -> Attended:
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from([1, 3])), draw(st.integers(0, 23)))
    n_rows, n_queries, n_entries = shape
    dtype = draw(st.sampled_from(list(DTYPES)))
    high = LARGEST[draw(st.sampled_from(sorted(LARGEST)))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def whole(*size: int) -> Tensor:
        return torch.randint(-high, high + 1, size, generator=generator).to(dtype)

    logw = None
    if draw(st.booleans()):
        logw = 2 * torch.randn(n_rows, N_HEADS, n_entries, generator=generator)
        is_gone = torch.rand(logw.shape, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        logw = logw.masked_fill(is_gone, -math.inf)
    value_dim = draw(st.sampled_from([DIM, 5]))
    return Attended(
        whole(n_rows, N_HEADS * GROUP, n_queries, DIM),
        whole(n_rows, N_HEADS, n_entries, DIM),
        torch.randn(n_rows, N_HEADS, n_entries, value_dim, generator=generator).to(dtype),
        logw,
        draw(st.sampled_from([None, None, 30.0])),
    )


@st.composite
def partitions(draw: st.DrawFn, whole: Attended) -> list[Tensor]:
    """Members bool [B, H, T] of up to five parts, some of them empty."""
    n_parts = draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    home = torch.randint(0, n_parts, whole.k.shape[:3], generator=generator)
    if draw(st.booleans()):
        home = home[:1, :1].expand_as(home)
    return [home == i for i in range(n_parts)]


def check(got: Answer, want: Answer, whole: Attended, n_parts: int) -> None:
    """Within the table's bound, and what rounding every part's log-sum-exp does to its weight."""
    bound = TOLERANCES[DTYPES[whole.q.dtype]].share
    size = float(want[1][want[1].isfinite()].abs().max()) if want[1].isfinite().any() else 0.0
    bound += 4 * n_parts * UNIT_ROUNDOFF["fp32"] * size
    assert got[0].dtype == got[1].dtype == torch.float32
    assert torch.equal(got[1].isneginf(), want[1].isneginf())
    assert not got[1].isnan().any() and got[0].isfinite().all()
    error = (got[1].double() - want[1]).masked_fill(want[1].isneginf(), 0.0).abs()
    assert error.numel() == 0 or float(error.max()) <= bound * max(1.0, size), "lse"
    assert (got[0][want[1].isneginf()] == 0).all(), "the empty answer is zero"
    error = (got[0].double() - want[0]).abs()
    assert error.numel() == 0 or float(error.max()) <= bound * float(want[0].abs().max()), "out"


def bracketed(answers: list[Answer], seed: int) -> Answer:
    """The answers merged two neighbours at a time, in random places."""
    draw, answers = random.Random(seed), list(answers)
    while len(answers) > 1:
        i = draw.randrange(len(answers) - 1)
        answers[i : i + 2] = [attend.merge(answers[i], answers[i + 1])]
    return answers[0]


@at_length(120, 3000, data=st.data())
def test_merging_is_attention(data: Any) -> None:
    whole = data.draw(attended())
    parts = data.draw(partitions(whole))
    answers = data.draw(st.permutations([whole.part(members) for members in parts]))
    nothing = attend.empty(whole.q, whole.v.shape[-1])
    want = whole.reference()
    n_empty = data.draw(st.integers(0, 2))
    check(attend.merge_all([*answers, *[nothing] * n_empty]), want, whole, len(parts))
    check(attend.merge_all([*[nothing] * n_empty, *answers]), want, whole, len(parts))
    check(bracketed(answers, data.draw(st.integers(0, 99))), want, whole, len(parts))
    check(whole.part(torch.ones(whole.k.shape[:3], dtype=torch.bool)), want, whole, 1)
