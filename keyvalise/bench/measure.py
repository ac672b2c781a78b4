"""One document under many recipes: read once, ask every cache the same questions, look what it holds.

The compressed text is the document alone, unless the settings say query-aware; then every question is read
together with its own copy of the document, all but its last token, and the cache answers from what it kept.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from keyvalise.bench import error, kept, prefill, speed
from keyvalise.bench.judge import Exam, can_judge, judge
from keyvalise.bench.once import Memo
from keyvalise.bench.plan import FULL, Document, Plan, Settings
from keyvalise.bench.results import Result
from keyvalise.host import answer
from keyvalise.host.cache import KVCache
from keyvalise.host.handle import KVLayer
from keyvalise.recipe import windows
from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import ImpossibleBudget

MOST_BYTES = 256 * 2**20
"""Most bytes of the copies of one cache that answer questions at the same time."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Bench:
    """A model, its tokenizer and how to measure; `is_exact`: an answer must end where it is expected to."""

    model: Any
    tokenizer: Any
    settings: Settings
    is_exact: bool = True

    def run(self, plan: Plan, done: set[str]) -> Iterator[Result]:
        """Results of all cases whose key is not in `done`, document by document."""
        # Layers and what they share know each other, so dropped caches wait for the collector. What exists
        # now stays, and leaving it out makes collecting quick.
        gc.freeze()
        try:
            for document in plan.documents:
                texts = [text for text in plan.texts if plan.key(document, text) not in done]
                if texts:
                    yield from self.document(document, texts, plan)
        finally:
            gc.unfreeze()

    def document(self, document: Document, texts: Sequence[str], plan: Plan) -> Iterator[Result]:
        """Results of these recipes on one document."""
        task = document.generate()
        laid = answer.prompt(self.model, self.tokenizer, task.document)
        asked = [laid.question(question) for question in task.questions]
        blank = {
            text: Result(
                plan.key(document, text), asdict(document), self.settings.to_dict(), text, machine=machine()
            )
            for text in texts
        }
        caches, refused = self.caches(texts, laid.document.shape[1])
        for text, reason in refused.items():
            yield replace(blank[text], refused=reason)
        exams = [
            Exam(tuple(ids), self.expected(text), text) for ids, text in zip(asked, task.answers, strict=True)
        ]
        blank = {text: replace(result, n_tokens=laid.document.shape[1]) for text, result in blank.items()}
        sitting = self._aware if self.settings.query_aware else self._sitting
        yield from sitting(caches, laid.document, exams, blank)

    def caches(self, texts: Sequence[str], n_tokens: int) -> tuple[dict[str, KVCache], dict[str, str]]:
        """A fresh cache per recipe, the full one first, asked for or not; and why others are impossible.

        n_tokens   that they will read
        """
        made, refused = {FULL: self._cache(FULL, n_tokens)}, {}
        for text in texts:
            try:
                made[text] = self._cache(text, n_tokens)
            except ImpossibleBudget as problem:
                refused[text] = str(problem)
        return made, refused

    def _cache(self, text: str, n_tokens: int) -> KVCache:
        settings, recipe = self.settings, Recipe.parse(text)
        if settings.fit_windows:
            recipe = windows.fitted(recipe, n_tokens)
        cache = KVCache(
            self.model, recipe, dtype=settings.dtype, prefill_chunk=settings.prefill_chunk, seed=settings.seed
        )
        for name in cache.recipe.spans:
            cache.span(name, 0, n_tokens)
        return cache

    def expected(self, answer: str) -> tuple[int, ...]:
        """The ids of a right answer, the end token included."""
        end = self.model.generation_config.eos_token_id
        ids = self.tokenizer(answer, add_special_tokens=False).input_ids
        return (*ids, end[0] if isinstance(end, list | tuple) else end)

    def _sitting(
        self, caches: dict[str, KVCache], context: Tensor, exams: Sequence[Exam], blank: dict[str, Result]
    ) -> Iterator[Result]:
        """Every cache reads the context, then answers the questions as forks; results of those in `blank`."""
        if self.settings.quick:
            yield from self._glance(caches, context, exams, blank)
            return
        asked = [exam.question for exam in exams]
        reads = prefill.read_all(self.model, context, list(caches.values()))
        full = self.ask(caches[FULL], context, asked)
        gaps = self.errors(list(caches.values()), [[*q, *a] for q, a in zip(asked, full, strict=True)])
        for (text, cache), read, gap in zip(caches.items(), reads, gaps, strict=True):
            if text not in blank:
                continue
            gc.collect()
            with speed.PeakRss() as peak:
                answers = self.words(self.ask(cache, context, asked))
            right = tuple(
                is_right(given, exam.words, self.is_exact) for given, exam in zip(answers, exams, strict=True)
            )
            yield replace(
                blank[text],
                **holdings(cache),
                right=right,
                answers=answers,
                error=gap,
                prefill_s=read.prefill_s,
                decode_tokens_per_s=speed.decode_tokens_per_s(self.model, cache, asked[0][0]),
                peak_rss_bytes=peak.n_bytes,
            )

    def _aware(
        self, caches: dict[str, KVCache], document: Tensor, exams: Sequence[Exam], blank: dict[str, Result]
    ) -> Iterator[Result]:
        """One sitting per question, which is part of the context; bytes and times are the first sitting's."""
        found: dict[str, list[Result]] = {text: [] for text in caches if text in blank}
        for exam in exams:
            *most, last = exam.question
            head = torch.tensor([most], dtype=document.dtype, device=document.device)
            context = torch.cat([document, head], 1)
            for result in self._sitting(
                self.caches(list(found), context.shape[1])[0],
                context,
                [replace(exam, question=(last,))],
                blank,
            ):
                found[result.recipe].append(result)
        for results in found.values():
            gaps = [result.error for result in results if result.error is not None]
            mean = sum(gaps) / len(gaps) if gaps else None
            yield replace(
                results[0],
                right=tuple(right for result in results for right in result.right),
                answers=tuple(answer for result in results for answer in result.answers),
                error=mean,
            )

    def _glance(
        self, caches: dict[str, KVCache], context: Tensor, exams: Sequence[Exam], blank: dict[str, Result]
    ) -> Iterator[Result]:
        """The same, where only right or wrong is of interest."""
        with Memo() as memo:
            for cache in caches.values():
                cache.shared.lend = memo.lend
            reads = prefill.read_all(self.model, context, list(caches.values()))
        times = dict(zip(caches, (read.prefill_s for read in reads), strict=True))
        mine = {text: cache for text, cache in caches.items() if text in blank}
        fits = [text for text, cache in mine.items() if can_judge(cache)]
        passed = dict(zip(fits, judge(self.model, [mine[text] for text in fits], exams), strict=True))
        for text, cache in mine.items():
            right = passed.get(text) or self._asked(cache, context, exams)
            yield replace(blank[text], **share_of(cache), right=right, prefill_s=times[text])

    def _asked(self, cache: KVCache, context: Tensor, exams: Sequence[Exam]) -> tuple[bool, ...]:
        answers = self.ask(cache, context, [exam.question for exam in exams])
        return tuple(tuple(a) == exam.answer[:-1] for a, exam in zip(answers, exams, strict=True))

    def ask(self, cache: KVCache, context: Tensor, asked: Sequence[Ids]) -> list[tuple[int, ...]]:
        """Greedy answers, as many questions at once as copies of the cache fit into MOST_BYTES."""
        step, found = max(1, MOST_BYTES // max(1, cache.nbytes)), []
        for begin in range(0, len(asked), step):
            some = asked[begin : begin + step]
            found += answer.ask(self.model, cache, context, some, max_new_tokens=self.settings.max_new_tokens)
        return found

    def errors(self, caches: Sequence[KVCache], texts: Sequence[Ids]) -> list[float] | list[None]:
        """Attention-output errors; none where the model's attention cannot be watched."""
        layers = [layer for cache in caches for layer in cache.shared.layers.values()]
        if not layers or not all(isinstance(layer, KVLayer) for layer in layers):
            return [None] * len(caches)
        return error.attention_errors(self.model, caches, texts)

    def words(self, answers: Sequence[Ids]) -> tuple[str, ...]:
        return tuple(self.tokenizer.decode(list(a), skip_special_tokens=True).strip() for a in answers)


def holdings(cache: KVCache) -> dict[str, Any]:
    """What a cache holds after reading: bytes in all and by field and layer, and where along the document."""
    ledger = cache.ledger()
    layers: dict[str, int] = {}
    for line in ledger.lines:
        layers[str(line.layer)] = layers.get(str(line.layer), 0) + line.n_bytes
    return {
        **share_of(cache),
        "fields": ledger.by_field(),
        "layers": layers,
        **kept.summary(cache),
    }


def share_of(cache: KVCache) -> dict[str, Any]:
    """Bytes held, and their share of a 16-bit full cache."""
    held = cache.nbytes
    return {"held_bytes": held, "share": held / full_bytes(cache)}


def full_bytes(cache: KVCache) -> int:
    """Bytes of keys and values of everything the cache has seen at 16 bit, one row, without any slack."""
    geometry = cache.shared.geometry
    n_elements = geometry.n_kv_heads * (geometry.key_dim + geometry.value_dim)
    return max(1, len(cache.shared.layers) * n_elements * 2 * cache.seen)


def is_right(given: str, expected: str, is_exact: bool = True) -> bool:
    """Whether an answer is the expected one, word for word; not exact: whether it begins with it."""
    words, wanted = given.lower().split(), expected.lower().split()
    return words == wanted if is_exact else words[: len(wanted)] == wanted


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("keyvalise")
    except metadata.PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    import transformers

    return {
        "keyvalise": version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }
