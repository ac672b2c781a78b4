"""When a stage acts: at the end of the prompt, or every n tokens, as cut points inside a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Phase = Literal["prompt", "decode"]


@dataclass(frozen=True, slots=True)
class Span:
    """One row's share of a call: the ordinals it brings and where its prompt ends.

    Units   real tokens of the row (ordinals)
    """

    start: int  # ordinal of the first real token of the call
    n: int  # real tokens of the call
    prompt_end: int | None = None  # ordinal after which decoding begins; None: the call has no prompt end
    chunk: int | None = None  # extra prompt ends every `chunk` ordinals
    total: int = (
        0  # tokens of the whole prompt where the caller has said so; shares refer to it from the start
    )
    is_prompt: bool = True  # phase of tokens before `prompt_end`, or of all when there is none

    def phase(self, ordinal: int) -> Phase:
        """Phase of the token with this ordinal."""
        if self.prompt_end is not None:
            return "prompt" if ordinal < self.prompt_end else "decode"
        return "prompt" if self.is_prompt else "decode"


@dataclass(frozen=True, slots=True)
class AtPrompt:
    """Once, where the prompt ends; with a prefill chunk also after every chunk of it."""

    phase: Phase | None = "prompt"

    def __str__(self) -> str:
        return "at prompt"

    def cuts(self, span: Span) -> tuple[int, ...]:
        """Ordinals after which the stage acts, ascending, within (start, start + n]."""
        end = span.prompt_end
        if end is None or end <= span.start:
            return ()
        last = min(end, span.start + span.n)
        cuts = set() if end > span.start + span.n else {end}
        if span.chunk:
            first = (span.start // span.chunk + 1) * span.chunk
            cuts |= set(range(first, last + 1, span.chunk))
        return tuple(sorted(cuts))


@dataclass(frozen=True, slots=True)
class Every:
    """After every token whose ordinal count is divisible by n, optionally in one phase only."""

    n: int
    phase: Phase | None = None

    def __str__(self) -> str:
        return f"every {self.n}" + (f" in {self.phase}" if self.phase else "")

    def cuts(self, span: Span) -> tuple[int, ...]:
        """Ordinals after which the stage acts, ascending, within (start, start + n]."""
        first = (span.start // self.n + 1) * self.n
        points: Sequence[int] = range(first, span.start + span.n + 1, self.n)
        if self.phase is None:
            return tuple(points)
        return tuple(point for point in points if span.phase(point - 1) == self.phase)


When = AtPrompt | Every
