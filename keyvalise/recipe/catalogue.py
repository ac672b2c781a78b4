"""Every part and every recipe by name, as data; a module is imported when its name is asked for.

Knows where things are, never what they do.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from keyvalise.types.errors import UnknownName

PARTS: Mapping[str, Mapping[str, str]] = {
    "score": {
        "evaluators": "keyvalise.score.evaluators.EvaluatorsScore",
        "expected": "keyvalise.score.expected.ExpectedScore",
        "global_local": "keyvalise.score.global_local.GlobalLocalScore",
        "gumbel": "keyvalise.score.gumbel.GumbelScore",
        "keydiff": "keyvalise.score.keydiff.KeydiffScore",
        "knorm": "keyvalise.score.norm.NormScore",
        "mass": "keyvalise.score.mass.MassScore",
        "norm_logit": "keyvalise.score.norm_logit.NormLogitScore",
        "policies": "keyvalise.score.policies.PoliciesScore",
        "probe": "keyvalise.score.probe.ProbeScore",
        "random": "keyvalise.score.random.RandomScore",
        "recency": "keyvalise.score.recency.RecencyScore",
        "retaining": "keyvalise.score.retaining.RetainingScore",
        "slot": "keyvalise.score.slot.SlotScore",
        "window": "keyvalise.score.window.WindowScore",
    },
    "rescore": {
        "layer": "keyvalise.score.layer.LayerRescore",
        "max": "keyvalise.score.mean.MaxRescore",
        "mean": "keyvalise.score.mean.MeanRescore",
        "output_error": "keyvalise.score.output_error.OutputErrorRescore",
        "output_norm": "keyvalise.score.output_norm.OutputNormRescore",
        "pool": "keyvalise.score.pool.PoolRescore",
        "value_norm": "keyvalise.score.value_norm.ValueNormRescore",
        "voters": "keyvalise.score.voters.VotersRescore",
    },
    "allocate": {
        "activity": "keyvalise.allocate.activity.ActivityAllocate",
        "adaptive": "keyvalise.allocate.adaptive.AdaptiveAllocate",
        "attentive": "keyvalise.allocate.attentive.AttentiveAllocate",
        "layers": "keyvalise.allocate.layers.LayersAllocate",
        "layout": "keyvalise.allocate.layout.LayoutAllocate",
        "prefix": "keyvalise.allocate.prefix.PrefixAllocate",
        "proportional": "keyvalise.allocate.proportional.ProportionalAllocate",
        "pyramid": "keyvalise.allocate.pyramid.PyramidAllocate",
        "threshold": "keyvalise.allocate.threshold.ThresholdAllocate",
        "uniform": "keyvalise.allocate.uniform.UniformAllocate",
        "water": "keyvalise.allocate.water.WaterAllocate",
    },
    "select": {
        "balance": "keyvalise.select.balance.BalanceSelect",
        "representatives": "keyvalise.select.representatives.RepresentativesSelect",
        "sample": "keyvalise.select.sample.SampleSelect",
        "top": "keyvalise.select.top.TopSelect",
        "two_stage": "keyvalise.select.two_stage.TwoStageSelect",
    },
    "act": {
        "cam": "keyvalise.act.cam.CamAct",
        "compensate": "keyvalise.act.compensate.CompensateAct",
        "demote": "keyvalise.act.demote.DemoteAct",
        "drop": "keyvalise.act.drop.DropAct",
        "merge": "keyvalise.act.merge.MergeAct",
    },
    "transform": {
        "center": "keyvalise.transform.center.CenterTransform",
        "hadamard": "keyvalise.transform.hadamard.HadamardTransform",
        "lean": "keyvalise.transform.lean.LeanTransform",
        "svd": "keyvalise.transform.svd.SvdTransform",
    },
    "encode": {
        "commvq": "keyvalise.encode.commvq.CommvqEncode",
        "aquakv": "keyvalise.encode.aqua.AquaEncode",
        "fp16": "keyvalise.encode.plain.Fp16Encode",
        "fp8": "keyvalise.encode.narrow.Fp8Encode",
        "hqq": "keyvalise.encode.hqq.HqqEncode",
        "int2": "keyvalise.encode.grouped.Int2Encode",
        "int4": "keyvalise.encode.grouped.Int4Encode",
        "int8": "keyvalise.encode.grouped.Int8Encode",
        "kivi": "keyvalise.encode.kivi.KiviEncode",
        "nsnquant": "keyvalise.encode.nsn.NsnEncode",
        "pq": "keyvalise.encode.product.PqEncode",
        "rq": "keyvalise.encode.residual.RqEncode",
        "vector": "keyvalise.encode.vector.VectorEncode",
    },
    "unit": {
        "clusters": "keyvalise.retrieve.clusters.ClustersUnit",
        "heads": "keyvalise.retrieve.tokens.HeadsUnit",
        "pages": "keyvalise.retrieve.pages.PagesUnit",
        "sentences": "keyvalise.retrieve.sentences.SentencesUnit",
        "spans": "keyvalise.retrieve.spans.SpansUnit",
        "stretches": "keyvalise.retrieve.drift.StretchesUnit",
        "tokens": "keyvalise.retrieve.tokens.TokensUnit",
    },
    "summary": {
        "ball": "keyvalise.retrieve.ball.BallSummary",
        "box": "keyvalise.retrieve.box.BoxSummary",
        "centroid": "keyvalise.retrieve.centroid.CentroidSummary",
        "graph": "keyvalise.retrieve.graph.GraphSummary",
        "keys": "keyvalise.retrieve.keys.KeysSummary",
        "landmarks": "keyvalise.retrieve.landmarks.LandmarksSummary",
        "spread": "keyvalise.retrieve.spread.SpreadSummary",
    },
    "query": {
        "now": "keyvalise.retrieve.now.NowQuery",
        "probing": "keyvalise.retrieve.probe.ProbingQuery",
        "sofar": "keyvalise.retrieve.sentences.SofarQuery",
    },
    "group": {
        "each": "keyvalise.retrieve.each.EachGroup",
        "peak": "keyvalise.retrieve.each.PeakGroup",
        "together": "keyvalise.retrieve.vote.TogetherGroup",
        "vote": "keyvalise.retrieve.vote.VoteGroup",
    },
    "trigger": {
        "always": "keyvalise.retrieve.always.AlwaysTrigger",
        "drift": "keyvalise.retrieve.drift.DriftTrigger",
    },
    "read": {
        "cutoff": "keyvalise.retrieve.cutoff.CutoffReading",
        "read": "keyvalise.retrieve.read.ReadReading",
        "sift": "keyvalise.retrieve.sift.SiftReading",
    },
    "residual": {
        "estimate": "keyvalise.retrieve.unread.EstimateResidual",
        "leave": "keyvalise.retrieve.unread.LeaveResidual",
    },
    "place": {
        "disk": "keyvalise.retrieve.here.DiskPlace",
        "here": "keyvalise.retrieve.here.HerePlace",
        "host": "keyvalise.retrieve.here.HostPlace",
    },
}
"""room → name → dotted path of the class."""

RECIPES = (
    "full",
    "streaming",
    "h2o",
    "observed",
    "snapkv",
    "tova",
    "knorm",
    "keydiff",
    "expected",
    "random",
    "weighted_random",
    "pyramidkv",
    "adakv",
    "headkv",
    "headkv_r2",
    "compresskv",
    "prefixkv",
    "duo",
    "rlkv",
    "rlkv_surrogate",
    "razor",
    "vatp",
    "caote",
    "criticalkv",
    "keyformer",
    "fastgen",
    "plphp",
    "normxlogit",
    "locret",
    "ehpc",
    "kvcrush",
    "balancekv",
    "ems",
    "elastic",
    "cam",
    "mikv",
    "kivi",
    "nsnquant",
    "commvq",
    "aquakv",
    "int8",
    "int4",
    "int2",
    "hqq",
    "lvq",
    "leanvec",
    "lowrank",
    "pq",
    "rq",
    "topk",
    "retrievalattention",
    "quest",
    "retroinfer",
    "sentencekv",
    "louiskv",
    "actqkv",
    "ltri",
    "headinfer",
)
"""Names of the modules in `keyvalise.recipes`, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Published:
    """One file of `recipes/`: its text, which fields its arguments set, what it cites, its essay."""

    name: str
    text: str
    arguments: Mapping[str, tuple[str, ...]]
    papers: tuple[str, ...]
    essay: str


def recipes() -> tuple[str, ...]:
    """Names of all published systems in the catalogue."""
    return RECIPES


def parts(room: str | None = None) -> tuple[str, ...]:
    """Names of all parts, or of those in one room, such as score, allocate or encode."""
    if room is None:
        return tuple(name for names in PARTS.values() for name in names)
    if room not in PARTS:
        raise UnknownName("room", room, PARTS)
    return tuple(PARTS[room])


def room(name: str) -> str | None:
    """The room of a part, None where there is no such part."""
    return next((room for room, names in PARTS.items() if name in names), None)


@cache
def part(name: str) -> Any:
    """The class of a part.

    Raises   UnknownName with the nearest names
    """
    home = room(name)
    if home is None:
        raise UnknownName("part", name, parts())
    module, _, attribute = PARTS[home][name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@cache
def recipe(name: str) -> Published:
    """The published system of this name.

    Raises   UnknownName with the nearest names
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    module = importlib.import_module(f"keyvalise.recipes.{name}")
    return Published(name, module.TEXT, module.ARGUMENTS, module.PAPERS, module.__doc__ or "")
