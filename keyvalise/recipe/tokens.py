"""A recipe's text cut into words, numbers and signs, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from keyvalise.types.errors import RecipeError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)|'(?P<string>[^']*)'|(?P<sign>\.\.|::|[>;:,()=@%])|(?P<bad>\S))"
)


@dataclass(frozen=True, slots=True)
class Token:
    """kind: number, word, string, sign, bad or end; `begin` and `end` are places in the text."""

    kind: str
    text: str
    begin: int
    end: int


class Tokens:
    """The tokens of one text and how far they have been read."""

    def __init__(self, text: str):
        self.text = text
        self.next = 0
        self.all: list[Token] = []
        for match in _TOKEN.finditer(text):
            kind = str(match.lastgroup)
            self.all.append(Token(kind, match[kind], match.start(kind), match.end(kind)))
        self.all.append(Token("end", "", len(text), len(text)))

    @property
    def peek(self) -> Token:
        return self.all[self.next]

    def ahead(self, text: str) -> bool:
        """Whether the next token reads so."""
        return self.peek.text == text

    def take(self, text: str) -> bool:
        """Pass the next token if it reads so."""
        found = self.ahead(text)
        self.next += found
        return found

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail(f"expected {text!r}")

    def pop(self, kind: str, what: str) -> Token:
        """The next token, which must be of this kind."""
        token = self.peek
        if token.kind != kind:
            self.fail(f"expected {what}")
        self.next += 1
        return token

    def until(self, *signs: str) -> str:
        """The text up to the next of these tokens, passed."""
        begin = self.peek.begin
        while self.peek.kind != "end" and self.peek.text not in signs:
            self.next += 1
        return self.text[begin : self.peek.begin].strip()

    def place(self, token: Token | None = None) -> str:
        """Where a token stands, in words."""
        token = token or self.peek
        found = "the end" if token.kind == "end" else repr(token.text)
        return f"recipe {self.text!r}, character {token.begin + 1} ({found})"

    @contextmanager
    def at(self, token: Token) -> Iterator[None]:
        """Put a token's place before whatever is wrong with the recipe inside."""
        try:
            yield
        except RecipeError as error:
            raise error.at(self.place(token)) from None

    def fail(self, problem: str, token: Token | None = None) -> NoReturn:
        """Raise RecipeError with the place before the problem."""
        raise RecipeError(f"{self.place(token)}: {problem}")
