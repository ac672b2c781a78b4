"""What a task makes: sentences for the document, and questions about them."""

from __future__ import annotations

from dataclasses import dataclass, field

Words = list[str]


@dataclass
class Item:
    """Sentences that belong together, in their order, and the (question, answer) pairs they allow.

    A decoy has no questions. `n_asked` says how many of the sentences the questions are about (default: all);
    the others are of the same form and contradict each other.
    """

    sentences: list[Words]
    questions: list[tuple[Words, Words]] = field(default_factory=list)
    n_asked: int | None = None

    @property
    def asked_tokens(self) -> int:
        """Tokens of the sentences that can be asked."""
        if not self.questions:
            return 0
        lengths = [len(sentence) for sentence in self.sentences]
        return sum(lengths) if self.n_asked is None else round(sum(lengths) * self.n_asked / len(lengths))
