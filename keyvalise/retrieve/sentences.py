"""Sentences: what stands between two punctuation marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.sentences import SentencesObserver
from keyvalise.ops import stretches
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Entries, Env, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class SentencesUnit:
    """The entries of a head whose tokens stood in one sentence.

    Shapes     → int64 [B, H, T]
    Formula    sentences end with a token of the class punctuation; what is left of one is a unit, cut after
               every `most` entries
    Units      most: entries
    Cost       SentencesObserver: 4 bytes per entry and kv head until it is in a unit; a budget counts with a
               unit for every entry, for of most sentences one token may be left
    Needs      token ids, queries, classes of tokens
    Phase      a block is cut when it is complete; a sentence that is cut by its end is two units
    Scope      per kv head; the same in all heads where all keep the same tokens
    Differs    one giant sentence, as in code or tables, is cut; the official code truncates it
    Paper      Zhu et al. 2025, arXiv 2504.00970            Confidence  official code
    """

    classes: str = asset("classes", doc="which tokens are punctuation", kind="classes")
    most: int = arg(64, low=1, doc="entries of a unit at most")

    name: ClassVar[str] = "sentences"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike"})
    takes: ClassVar[frozenset[str]] = frozenset()
    keeps_order: ClassVar[bool] = True
    length: ClassVar[float] = 1.0

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (SentencesObserver(self.classes),)

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return stretches.units(entries.column("sentence"), entries.live, self.most)


@dataclass(frozen=True, slots=True)
class SofarQuery:
    """The mean query of the sentence that is being written searches for all of it.

    Shapes     → float32 [B, Hq, D]
    Formula    (Σ q of the sentence's tokens before + q) / n, queries as they are, rotated; a sentence of at
               most `least` tokens knows too little and reads everything
    Units      least: tokens
    Cost       SentencesObserver
    Needs      token ids, queries, classes of tokens
    Scope      per query head
    Reduces to now for a sentence's first token
    Paper      Zhu et al. 2025, arXiv 2504.00970            Confidence  official code
    """

    classes: str = asset("classes", doc="which tokens are punctuation", kind="classes")
    least: int = arg(1, low=0, doc="tokens of a sentence that reads everything")

    name: ClassVar[str] = "sofar"
    room: ClassVar[str] = "query"
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (SentencesObserver(self.classes),)

    def query(self, env: Env, queries: Queries) -> Tensor:
        total, length = queries.stats["sentence_q"], queries.stats["sentence_length"]
        return (total + queries.q[:, :, -1].float()) / (length + 1)[:, None, None]

    def is_ready(self, env: Env, queries: Queries) -> Tensor:
        return queries.stats["sentence_length"] + 1 > self.least
