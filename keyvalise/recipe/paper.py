"""One paper of the bibliography."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper; `authors` in BibTeX's own form, `arxiv` its identifier there, or where else it appeared."""

    authors: str
    title: str
    year: int
    arxiv: str = ""
    venue: str = ""

    @property
    def place(self) -> str:
        """Where it is found, in the words of an essay."""
        return f"arXiv {self.arxiv}" if self.arxiv else self.venue
