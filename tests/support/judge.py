"""Whether a mode is served: what transformers' own cache does there, and what each of our caches does.

An outcome is the power of ten that no relative error of a logit exceeds, or a text that begins with
"stock cannot", "refused" or "wrong".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache, Recipe
from keyvalise.types.errors import KeyvaliseError
from tests.support import drive, modes, tape
from tests.support.models import DENSE, tiny
from tests.support.modes import PROMPT, Mode
from tests.support.tape import Step, Tape
from tests.support.tolerances import TOLERANCES, UNIT_ROUNDOFF, half_step

Outcome = float | str

FULL, WIDE = "full", "in 64 bits"
CODES = {
    "int8(group=8, residual=8)": 8,
    "int4(group=8, residual=8)": 4,
    "int2(group=8, residual=8)": 2,
    "kivi(2, group=8, residual=8)": 2,
}
INT8 = next(iter(CODES))
HANDLES = (FULL, "snapkv(window=7) @ 40%", "h2o @ 18tok", INT8)
"""Nothing dropped, a choice per head at the prompt's end, one at every step, codes."""

LATENTS = (FULL, "knorm @ 40%", "random @ 40%", "streaming @ 18tok", INT8)
PLAIN = (FULL, *CODES)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


EVERY_EXPERT = {
    "mixtral": {"num_experts_per_tok": 4},
    "qwen3_next": {"num_experts_per_tok": 4},
    "gpt_oss": {"num_experts_per_tok": 4},
    "llama4": {"num_experts_per_tok": 2},
    "deepseek_v3": {"num_experts_per_tok": 4, "topk_group": 2},
}
"""In 16 bits the last digit may send a token to another expert, which is no error of a cache: there all are
asked.
"""


def model_of(family: str, mode: Mode, recipe: str = FULL) -> Any:
    """The tiny model that a recipe is played on.

    Where two runs write codes, a number between two of them falls on either side by the noise of its sum:
    twice the digits make that rare.
    """
    if is_wide(family, mode, recipe):
        return tiny(family, torch.float64, experts_implementation="eager")
    if mode.dtype is torch.float32:
        return tiny(family)
    return tiny(family, mode.dtype, **EVERY_EXPERT.get(family, {}))


def is_wide(family: str, mode: Mode, recipe: str) -> bool:
    """Whether codes of two runs are compared: of a mode that decides inside a forward, and of another."""
    return bool(mode.cuts) and recipe in CODES and family not in DENSE


def recipes(family: str) -> tuple[str, ...]:
    """What a family is asked to serve in every mode."""
    return HANDLES if family not in DENSE else LATENTS if family == "deepseek_v3" else PLAIN


def refusal(family: str, mode: Mode, recipe: str) -> str | None:
    """A piece of the sentence that must refuse this combination."""
    if family not in DENSE:
        return None
    drops = Recipe.parse(recipe).stages
    if mode.chunk:
        return "hands no queries to a cache, so prefill_chunk cannot cut its forward"
    if mode.drafts and any(stage.decodes for stage in drops):
        return "recipes that drop while decoding cannot take drafts back on this model"
    if mode.play is modes.assistant_model and drops:
        return "the prompt ends inside a forward"
    return None


@dataclass(frozen=True)
class Played:
    """A mode that was played: the tape, and the ids it generated, if any."""

    tape: Tape
    ids: Tensor | None


def play(model: Any, cache: Any, mode: Mode) -> Played:
    if mode.drafts:
        modes.assistant(model)
    with quiet(), tape.recording(model, cache) as recorded:
        ids = mode.play(model, cache)
    return Played(recorded, ids)


def judge(family: str, mode: Mode) -> dict[str, Outcome]:
    """recipe → outcome; under "stock" why transformers' own cache cannot, if it cannot."""
    found: dict[str, Outcome] = {}
    played: dict[Any, Played] = {}
    for recipe in recipes(family):
        model = model_of(family, mode, recipe)
        try:
            if model not in played:
                played[model] = play_stock(model, mode)
        except Exception as error:  # whatever it raises is the answer
            return {"stock": f"stock cannot: {said(error)}"}
        name = f"{recipe} {WIDE}" if is_wide(family, mode, recipe) else recipe
        found[name] = outcome(family, mode, recipe, played[model])
    return found


def play_stock(model: Any, mode: Mode) -> Played:
    """A mode with transformers' own cache, which must be right itself; drafts must be taken back at times."""
    keyvalise.detach(model)
    stock = play(model, DynamicCache(config=model.config), mode)
    if mode.drafts and not any(stock.tape.crops):
        raise ValueError("nothing was taken back, which shows nothing")
    if mode.cuts and (error := detour(model, mode, stock)) > TOLERANCES["logits_coded"].share:
        raise ValueError(f"its own logits come out {error:.0%} off")
    return stock


def outcome(family: str, mode: Mode, recipe: str, stock: Played) -> Outcome:
    """What came of one recipe in one mode."""
    model, expected = model_of(family, mode, recipe), refusal(family, mode, recipe)

    def make() -> KVCache:
        with quiet():
            return KVCache(model, recipe, prefill_chunk=mode.chunk)

    try:
        error = worst(model, make, mode, play(model, make(), mode), stock)
    except KeyvaliseError as refused:
        is_expected = expected is not None and expected in str(refused)
        return f"{'refused' if is_expected else 'wrong: refused'}: {said(refused)}"
    except Exception as crashed:
        return f"wrong: {type(crashed).__name__}: {said(crashed)}"
    if expected is not None:
        return f"wrong: not refused with {expected!r}"
    bound = TOLERANCES[
        "logits_coded" if is_wide(family, mode, recipe) else f"logits_{NAMES[mode.dtype]}"
    ].share
    return ceiling(error) if error <= bound else f"wrong: off by {error:.2g}, allowed {bound:.2g}"


def worst(model: Any, make: Callable[[], KVCache], mode: Mode, played: Played, stock: Played) -> float:
    """The largest relative error of a mode, against the stock cache or against the full cache with holes."""
    cache, steps = played.tape.cache, played.tape.steps
    is_stock = not cache.shared.layers or not (cache.recipe.stages or cache.recipe.code)
    if is_stock:
        assert same(played.ids, stock.ids), "generates other tokens than the stock cache"
        want = [step.logits for step in stock.tape.steps]
        assert len(want) == len(steps), "makes other calls than the stock cache"
        return most(steps, want)
    if cache.recipe.stages:
        longest = max(len(head) for rows in drive.held(cache).values() for row in rows for head in row)
        assert longest < cache.seen, "nothing was dropped"
    if cache.recipe.code is not None and played.ids is None:
        check_codes(cache, stock.tape.cache)
    if decides_at_cuts(mode, cache):
        return worst_at_cuts(model, make(), mode, played, stock)
    return most(steps, tape.replay(model, steps, hides=hides(cache)))


def most(steps: Sequence[Step], want: Sequence[Tensor]) -> float:
    """The largest error of the columns that are not padding."""
    return max(
        relative(step.logits[step.real], logits[step.real]) for step, logits in zip(steps, want, strict=True)
    )


def worst_at_cuts(model: Any, cache: KVCache, mode: Mode, played: Played, stock: Played) -> float:
    """The columns that stayed, against a run whose calls end where this mode decides.

    Such calls change the last digits of any cache's logits: what they change in the stock cache's is taken
    off where it matters.
    """
    ids, logits = played.tape.columns()
    with tape.recording(model, cache) as straight:
        drive.run(model, cache, at_cuts(cache, mode, ids))
    assert drive.held(cache) == drive.held(played.tape.cache), "holds other tokens than without detours"
    want = torch.cat(tape.replay(model, straight.steps, hides=hides(cache)), 1)[0]
    if played.ids is not None:
        n = min(played.ids.shape[1], len(ids) + 1)
        greedy = want[PROMPT - 1 : n - 1].index_fill(-1, torch.tensor(modes.FEW), -math.inf).argmax(-1)
        assert torch.equal(played.ids[0, PROMPT:n], greedy), "does not say what greedy decoding says"
    error = known(logits, want)
    return error if error <= TOLERANCES["logits_fp32"].share else max(error - detour(model, mode, stock), 0.0)


def detour(model: Any, mode: Mode, stock: Played) -> float:
    """What this mode changes in the stock cache's own logits, against a run without detours."""
    keyvalise.detach(model)
    ids, logits = stock.tape.columns()
    cache = DynamicCache(config=model.config)
    want = torch.cat(drive.run(model, cache, at_cuts(cache, mode, ids)).logits, 1)[0]
    return known(logits, want)


def decides_at_cuts(mode: Mode, cache: KVCache) -> bool:
    """Whether something is decided inside a forward of this mode; without handles, codes wait for its end."""
    return bool(mode.cuts) and (cache.shared.seam == "handle" or cache.recipe.code is None)


def at_cuts(cache: Any, mode: Mode, ids: list[int]) -> list[drive.Call]:
    """The calls of a run over these ids that takes nothing back and is not cut inside."""
    modes.tell_end(cache, PROMPT)
    text = drive.Text(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
    return text.calls(*mode.cuts, *[1] * (len(ids) - sum(mode.cuts)))


def known(logits: Sequence[Tensor | None], want: Tensor) -> float:
    """The error of the columns whose logits were asked for."""
    places = [i for i, one in enumerate(logits) if one is not None]
    return relative(torch.stack([one for one in logits if one is not None]), want[places])


def check_codes(cache: KVCache, stock: Any) -> None:
    """Codes take their bits, and stand within half a step of what the stock cache holds of the same text.

    What enters the first handled layer is exact, so that its codes can be held against the stock cache's.
    """
    bits = next(n for name, n in CODES.items() if Recipe.parse(name).code == cache.recipe.code)
    full = sum(layer.keys.nbytes + layer.values.nbytes for layer in handled(cache, stock))
    first, contents = handled(cache, stock)[0], next(iter(tape.read(cache).values()))
    share = cache.ledger().by_field()["codes"] / full
    assert 0 < share <= bits / 8 / first.keys.element_size(), f"codes take {share:.0%} of what they stand for"
    row, head, slot = torch.nonzero(contents.columns >= 0, as_tuple=True)
    column = contents.columns[row, head, slot]
    rounding = 2 * (UNIT_ROUNDOFF["fp16"] + UNIT_ROUNDOFF.get(NAMES.get(first.keys.dtype, ""), 0.0))
    for held, raw in ((contents.keys, first.keys), (contents.values, first.values)):
        low, high = float(raw.min()), float(raw.max())
        bound = half_step(low, high, bits) + rounding * (high - low)
        error = float((held[row, head, slot].float() - raw[row, head, column].float()).abs().max())
        assert error <= bound, f"a code is off by {error:.3g}, half a step is {bound:.3g}"


def handled(cache: KVCache, stock: Any) -> list[Any]:
    """The layers of a stock cache for which ours has one of its own."""
    return [stock.layers[i] for i in sorted(cache.shared.layers)]


def hides(cache: KVCache) -> bool:
    """Whether the oracle must hide what was dropped; without the attention interface nothing is dropped."""
    return cache.shared.seam != "dense"


def relative(got: Tensor, want: Tensor) -> float:
    """Largest |got − want| as a share of the largest |want|; NaN counts as infinitely wrong."""
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    error = (got.double() - want.double()).abs().max() / want.double().abs().max()
    return math.inf if bool(error.isnan()) else float(error)


def layers(family: str) -> str:
    """How many of a model's layers a recipe acts on."""
    with quiet():
        cache = KVCache(tiny(family))
    return f"{len(cache.shared.layers)} of {len(cache.layers)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning that all layers slide: what comes of it is in the table."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no layer of .* keeps a cache that grows")
        yield


def same(got: Tensor | None, want: Tensor | None) -> bool:
    return got is want if got is None or want is None else torch.equal(got, want)


def ceiling(error: float) -> float:
    """The least power of ten that is not below: what another machine will most likely find as well."""
    return 0.0 if error == 0 else float(f"1e{math.ceil(math.log10(error))}")


def said(error: Exception) -> str:
    """The first sentence of an error, on one line."""
    return " ".join(str(error).split()).partition(". ")[0][:400].rstrip(".") or type(error).__name__
