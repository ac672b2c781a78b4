"""Stretches of queries that point the same way: where one ends and the next begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.ops import rope
from keyvalise.types.geometry import Rope


class Course(NamedTuple):
    """n, length int32 [B]: stretches begun, tokens of the present one;  q float32 [B, Hq, D]: the newest
    query, un-rotated.
    """

    n: Tensor
    length: Tensor
    q: Tensor


@dataclass(frozen=True, slots=True)
class Rule:
    """A query whose likeness to the one before is below `tau` begins a stretch, unless the present one has
    fewer than `least` tokens.
    """

    tau: float
    least: int
    turning: Rope | None

    def begins(self, course: Course, q: Tensor, ordinals: Tensor) -> Tensor:
        """bool [B]: whether queries [B, Hq, D] of these ordinals [B] begin a stretch.

        Formula  mean_h cos(q_{t−1}, q_t) < tau, un-rotated; the first query of all begins one
        """
        likeness = functional.cosine_similarity(self._unturned(q, ordinals), course.q, dim=-1).mean(1)
        return ((likeness < self.tau) & (course.length >= self.least)) | (course.n == 0)

    def advance(self, course: Course, q: Tensor, ordinals: Tensor, is_one: bool) -> tuple[Course, Tensor]:
        """The course behind queries [B, Hq, S, D], and the stretch of each, int32 [B, S]; ordinal −1: none.

        is_one   they go on as they begin
        """
        numbers: list[Tensor] = []
        for step in ordinals.split(ordinals.shape[1] if is_one else 1, 1):
            begin = sum(number.shape[1] for number in numbers)
            row, last = torch.arange(len(step), device=q.device), step.argmax(1)
            newest, place = q[row, :, begin + last], step[row, last]
            has_come = (step >= 0).any(1)
            begins = self.begins(course, newest, place) & has_come
            begins = begins & (course.n == 0) if is_one else begins
            course = Course(
                course.n + begins.int(),
                torch.where(begins, 0, course.length) + (step >= 0).sum(1, dtype=torch.int32),
                torch.where(has_come[:, None, None], self._unturned(newest, place), course.q),
            )
            numbers.append(course.n[:, None].expand(step.shape))
        return course, torch.cat(numbers, 1)

    def _unturned(self, q: Tensor, ordinals: Tensor) -> Tensor:
        if self.turning is None:
            return q.float()
        turned: Tensor = rope.unrotate(q, ordinals.clamp(min=0)[:, None], self.turning)
        return turned.float()
