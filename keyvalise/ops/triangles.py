"""Triangles below the diagonal of attention: stretches of a window whose tokens attend to one another.

Axes    N windows of w tokens;  `first` int [N]: tokens of a window before this one, its sinks, take no part
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops.frames import Frame, Pairs
from keyvalise.types.geometry import Geometry

TOGETHER = 64
"""Windows of a row that are cut at once."""


def attention(q: Tensor, k: Tensor, first: Tensor, *, scale: float, softcap: float | None = None) -> Tensor:
    """float32 [N, w, w]: how often the tokens of a window attend to one another, as if there were no others.

    Shapes   q [N, Hq, w, D], k [N, H, w, D]
    Formula  n_i · mean_h softmax_{first ≤ j ≤ i}(scale·q_hi·k_j), n_i visible tokens: 1 where all are alike
    """
    n_rows, n_query, n_tokens, dim = q.shape
    grouped = q.float().view(n_rows, k.shape[1], -1, n_tokens, dim)
    logits = (scale * grouped @ k.float().mT[:, :, None]).flatten(1, 2)
    if softcap is not None:
        logits = softcap * (logits / softcap).tanh()
    sees = visible(first, n_tokens)
    shares = logits.masked_fill(~sees[:, None], -torch.inf).softmax(-1)
    return torch.where(sees, shares.mean(1) * sees.sum(-1, keepdim=True), 0.0)


def visible(first: Tensor, n: int) -> Tensor:
    """bool [N, n, n]: whether token i sees token j and both take part."""
    place = torch.arange(n, device=first.device)
    return (place <= place[:, None]) & (place >= first[:, None, None])


def scores(attention: Tensor, theta: float, first: Tensor) -> Tensor:
    """float32 [N, w, w]: S(x, y) of all spans x … y, −inf where there is none.

    Formula  S(x, y) = Σ_{x ≤ j ≤ i ≤ y} (A_ij − theta): sums of every row from its end, then of rows downward
    Cost     w² time per window; a sum holds no number but its own, so that small spans keep their digits
    """
    sees = visible(first, attention.shape[-1])
    excess = torch.where(sees, attention.float() - theta, 0.0)
    total = excess.flip(2).cumsum(2).flip(2).cumsum(1)
    return torch.where(sees, total, -torch.inf).mT


@dataclass(frozen=True, slots=True)
class Rule:
    """Which spans are chosen: of `least` to `most` tokens, the best score first, positive ones only.

    overlap   a span goes where its tokens are shared with a chosen one by more than this part of their union
    """

    theta: float
    least: int
    most: int
    overlap: float = 0.0

    def numbers(self, attention: Tensor, first: Tensor) -> Tensor:
        """int64 [N, w]: the span of every token, counted from 0; tokens between two spans are one as well.

        A token of several spans belongs to the best; what is left of the others on either side is apart.
        """
        score, n = scores(attention, self.theta, first), attention.shape[-1]
        place = torch.arange(n, device=score.device)
        begin, end = place[:, None], place[None, :]
        length = end - begin + 1
        is_long = (length >= self.least) & (length <= self.most)
        score = score.masked_fill(~(is_long & (score > 0)), -torch.inf)
        owner = torch.zeros(len(score), n, dtype=torch.long, device=score.device)
        for turn in itertools.count(1):
            best = score.flatten(1).argmax(1)
            is_found = score.flatten(1).gather(1, best[:, None]) > -torch.inf
            if not bool(is_found.any()):
                break
            x, y = (best // n)[:, None, None], (best % n)[:, None, None]
            inside = (place >= x[:, 0]) & (place <= y[:, 0]) & is_found
            owner = torch.where(inside & (owner == 0), turn, owner)
            shared = (torch.minimum(end, y) - torch.maximum(begin, x) + 1).clamp(min=0)
            is_like = shared > self.overlap * (length + y - x + 1 - shared)
            is_itself = (begin == x) & (end == y)
            score = score.masked_fill((is_like | is_itself) & is_found[..., None], -torch.inf)
        fresh = torch.zeros_like(owner)
        fresh[:, 1:] = owner[:, 1:] != owner[:, :-1]
        return fresh.cumsum(1)


def of_windows(frame: Frame, pairs: Pairs, rule: Rule, sinks: int, geometry: Geometry) -> Tensor:
    """int64 [B, most, w]: spans of the windows of queries and keys that are complete in any row, see `Rule`;
    in the others anything.

    sinks   first tokens of a row that take no part
    """
    found = [frame.base.new_zeros(len(frame.base), 0, frame.window)]
    for begin in range(0, frame.most, TOGETHER):
        maps, firsts = [], []
        for i in range(begin, min(begin + TOGETHER, frame.most)):
            q, k = (frame.taken(*pair, torch.full_like(frame.base, i)) for pair in pairs)
            firsts.append((sinks - frame.base - i * frame.window).clamp(0, frame.window))
            maps.append(attention(q, k, firsts[-1], scale=geometry.scale, softcap=geometry.softcap))
        numbers = rule.numbers(torch.cat(maps), torch.cat(firsts))
        found.append(numbers.unflatten(0, (len(maps), -1)).transpose(0, 1))
    return torch.cat(found, 1)
