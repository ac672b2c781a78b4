"""The one table of recipes that every law runs over: the catalogue at sizes that a tiny model can show.

A new entry of the catalogue is in the table by itself; only what no single entry shows is written out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

import keyvalise
from keyvalise.recipe import catalogue, tier
from keyvalise.types.code import Chained
from keyvalise.types.geometry import Geometry
from keyvalise.types.when import Every
from tests.support.models import tiny

SMALL: dict[str, int] = {"window": 7, "residual": 8, "group": 8}
"""Arguments of recipes that are cut down to texts of some sixty tokens, wherever a recipe has them."""

OWN: dict[str, dict[str, int | float]] = {
    "vatp": {"sinks": 3},
    "caote": {"window": 3},
    "compresskv": {"least": 5},
    "duo": {"sinks": 2, "recent": 5},
    "rlkv": {"sinks": 1, "recent": 7},
    "rlkv_surrogate": {"sinks": 1, "recent": 7},
    "razor": {"sinks": 2},
    "balancekv": {"sinks": 3, "recent": 5},
    "elastic": {"slot": -7},
    "topk": {"read": 9, "sinks": 1, "recent": 3, "block": 5},
    "quest": {"read": 9, "page": 4, "block": 4},
    "sentencekv": {"read": 9, "most": 4, "sinks": 2, "recent": 3, "block": 5},
    "louiskv": {"read": 9, "cluster": 4, "sinks": 2, "recent": 3, "block": 5},
    "actqkv": {"read": 9, "page": 4, "landmarks": 2, "sinks": 2, "recent": 3, "block": 5},
    "ltri": {"read": 9, "theta": 1.1, "longest": 5, "sinks": 2, "recent": 3, "block": 5},
    "retrievalattention": {
        "read": 9,
        "degree": 4,
        "sample": 16,
        "beam": 9,
        "width": 9,
        "sinks": 2,
        "recent": 3,
    }
    | {"block": 5},
    "headinfer": {"recent": 3, "block": 5},
    "retroinfer": {"read": 9, "cluster": 3, "segment": 13, "estimate": 9, "recent": 3, "block": 5},
}
"""The same for one recipe: vatp's twenty sinks would fill what is kept of such a text, and the queries that
caote holds while decoding the smallest budget of a short row; duo and balancekv protect more than such a
text has.
"""

BUDGET = "40%"

VARIANTS = {
    "knorm_every": "knorm(every=5) @ 13tok",
    "keydiff_anywhere": "at prompt, every 4: keydiff > drop(sinks=2) @ 17tok",
    "snapkv_adaptive_int4": "snapkv(window=7) > adaptive > int4(residual=8, group=8) @ 30%",
    "adakv_every_kivi": "adakv(window=7, every=3) > kivi(8, group=8, residual=16) @ 60%",
    "h2o_tokens": "h2o @ 20tok",
    "tova_kivi": "tova > kivi(8, group=8, residual=0) @ 40%",
    "weighted_adaptive": "weighted_random > adaptive @ 40%",
    "criticalkv_adaptive": "criticalkv(window=7) > adaptive @ 40%",
    "tova_output_error": "tova > output_error @ 40%",
    "activity": "at prompt: window(7) > value_norm > max > activity > drop(sinks=1, recent=7) @ 40%",
    "duo_int8": "duo(sinks=2, recent=5) > int8(residual=4, group=8) @ 40%",
    "ems_adaptive_int4": "ems(window=7) > adaptive > int4(residual=8, group=8) @ 40%",
    "cam_every": "at prompt, every 5 in decode: mass > cam(3, weight=mass, recent=4) @ 17tok",
    "compensated": "at prompt, every 4: recency > compensate(sinks=2) @ 17tok",
    "representatives_mean": "at prompt: window(7) > representatives(0.5, anchor=mean) > drop(recent=3) @ 30%",
    "probe": "at prompt: probe(7, distance=30) > drop(recent=3) @ 40%",
    "locret_chunks": "at prompt: retaining > drop(recent=3) @ 17tok; "
    "every 13 in prompt: retaining > drop(recent=5) @ 17tok",
    "demoted_snapkv": "at prompt: window(7) > adaptive > demote(int4, recent=7) @ 60%",
    "demoted_centred": "at prompt, every 5: mass > demote('center > int4', recent=4) @ 30tok",
    "streaming_aquakv": "streaming(sinks=2) > aquakv(residual=8) @ 30%",
    "joint_on_layers": "at prompt: mass > water > drop(recent=3) @ 30% on ..2",
    "snapkv_clusters_int8": "snapkv(window=7) > int8(residual=4, group=8) > clusters(3, segment=13) > each "
    "> read(9, sinks=1, recent=3, block=8) > estimate(30%) @ 40%",
    "kivi_pages": "kivi(8, group=8, residual=8); "
    "pages(3) > ball > peak > read(9, sinks=1, recent=0, block=8) on 1..",
    "sifted": "clusters(3, segment=13, by=distance) > spread "
    "> sift(5, within=15, sinks=1, recent=3, block=8)",
    "clusters_on_disk": "int8(residual=4, group=8); "
    "clusters(3) > read(9, sinks=1, recent=3, block=8) > disk(cache=0)",
    "on_layers": "at prompt: knorm > drop(recent=3) @ 30% on 1..; int8(residual=4, group=8) on ..2",
}
"""Compositions that no entry of the catalogue shows: rhythms, ragged codes, weights, merges into codes,
what is remembered of losers, ranges of layers.
"""


@dataclass(frozen=True)
class Case:
    """A recipe under a name; `arguments` are those of a catalogue's entry, None for a composition."""

    name: str
    text: str
    arguments: frozenset[str] | None = None

    @cached_property
    def recipe(self) -> keyvalise.Recipe:
        return keyvalise.Recipe.parse(self.text)

    @property
    def model(self) -> Any:
        """The tiny Llama to run it on, in float64 where codes are written.

        A number that lies between two codes falls on either side by the noise of its sum; twice the digits
        keep that from happening where two runs compute the same number in different batches or pieces.
        """
        return tiny("llama", torch.float64 if self.codes else torch.float32)

    @property
    def bound(self) -> str:
        """The tolerance of its logits."""
        return "logits_coded" if self.codes else "logits_fp32"

    @property
    def reads(self) -> bool:
        """Whether it reads few of its entries."""
        return self.recipe.reader is not None

    @property
    def drops(self) -> bool:
        return bool(self.recipe.stages) and not self.demotes

    @property
    def demotes(self) -> bool:
        """Whether losers are kept in a code of their own."""
        return any(tier.of(stage) is not None for stage in self.recipe.stages)

    @property
    def codes(self) -> bool:
        return self.recipe.code is not None or self.demotes

    @property
    def is_bound(self) -> bool:
        """Whether its budget is a bound that it may stay below."""
        return any(stage.allocate.binding != "exact" for stage in self.recipe.stages)

    @property
    def is_even(self) -> bool:
        """Whether every layer keeps as much as any other."""
        even = {"uniform", "adaptive", "activity"}
        return all(stage.allocate.name in even for stage in self.recipe.stages)

    @property
    def is_joint(self) -> bool:
        """Whether a stage looks at all layers, and so acts at the end of a call and takes no drafts back."""
        return any(stage.scope == "model" for stage in self.recipe.stages)

    @property
    def decodes(self) -> bool:
        """Whether it can decide while decoding."""
        return any(stage.decodes for stage in self.recipe.stages)

    @property
    def rhythm(self) -> int | None:
        """The n of stages that act every n tokens of a prompt, or wherever they stand, and so cut the short
        prompts of these tests.
        """
        whens = [when for stage in self.recipe.stages for when in stage.when if isinstance(when, Every)]
        return next((when.n for when in whens if when.phase != "decode" and when.n < 64), None)

    @property
    def beats_everywhere(self) -> bool:
        """Whether a stage acts every n tokens, whether they are a prompt's or decoded."""
        return any(when.phase is None for stage in self.recipe.stages for when in stage.when)

    @property
    def weighs(self) -> bool:
        """Whether entries may carry log-weights."""
        return any("logw" in part.gives for part in self.recipe.parts)

    @property
    def draws(self) -> bool:
        """Whether it draws lots."""
        noisy = {getattr(part, "noise", "none") for part in self.recipe.parts} - {"none"}
        return bool(noisy or self.has("random", "sample", "balance", "cam"))

    def has(self, *names: str) -> bool:
        """Whether a part of one of these names is in it."""
        return bool({part.name for part in self.recipe.parts} & set(names))

    @property
    def forgets(self) -> bool:
        """Whether it drops, keepers stay what they were, and losers leave nothing behind."""
        acts = [stage.act for stage in self.recipe.stages]
        shape = Geometry(1, 4, 2, 8, 8, torch.float32, 1.0)
        return (
            self.drops
            and not self.reads
            and not any(act.changes_keepers or act.cost(shape, 2, 1) for act in acts)
        )

    @property
    def ranks(self) -> bool:
        """Whether the best scores are what stays."""
        return not self.has("sample", "balance", "representatives")

    @property
    def nests(self) -> bool:
        """Whether a larger count keeps what a smaller one keeps."""
        return not self.has("balance", "representatives")

    @property
    def names_heads(self) -> bool:
        """Whether heads differ by their number alone, or are mixed with one another in their order."""
        anchors = {getattr(part, "anchor", "") for part in self.recipe.parts}
        return isinstance(self.recipe.code, Chained) or bool(anchors & {"alternate", "random"})

    def with_budget(self, budget: str) -> str:
        """The same recipe under another budget; codes alone have none."""
        return f"{self.text.partition(' @')[0]} @ {budget}" if self.drops else self.text


def of_catalogue(name: str, budget: str = BUDGET, **arguments: int | float) -> Case:
    """An entry of the catalogue with small arguments, under a budget if it drops."""
    published = catalogue.recipe(name)
    small = {k: v for k, v in SMALL.items() if k in published.arguments} | OWN.get(name, {})
    settings = {**small, **arguments}
    text = name + (f"({', '.join(f'{k}={v}' for k, v in settings.items())})" if settings else "")
    if keyvalise.Recipe.parse(text).stages:
        text += f" @ {budget}"
    return Case(name, text, frozenset(published.arguments))


CATALOGUE = tuple(of_catalogue(name) for name in keyvalise.recipes())
CASES = (*CATALOGUE, *(Case(name, text) for name, text in VARIANTS.items()))
