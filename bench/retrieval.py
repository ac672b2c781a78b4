"""Reading little of a long context: what is found of the attention, what a step costs, what it brings from a
slower tier.

python bench/retrieval.py [CASE …] [--again] [--list]

found-LAYER     128k tokens as a layer of the reference model holds them, against exact search at equal reads
cost-*          a decode step at 8k to 128k tokens, against our own full read of 16k
slow-*          bytes that a step brings from host memory or disk, and what stays near
answers         right answers of the reference model at its longest context

Keys, values and queries: see `stretched`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import cases
import decode
import models
import stretched
import torch
import wide
from torch import Tensor
from transformers import LlamaForCausalLM

import keyvalise
from keyvalise.host.cache import KVCache
from keyvalise.observe.sample import SampleObserver
from keyvalise.ops import attend
from keyvalise.recipe.object import Recipe
from keyvalise.store import flat, sifted
from keyvalise.store.indexed import Indexed
from keyvalise.store.ragged import Ragged
from keyvalise.types.data import Env, Queries, Stretch
from keyvalise.types.geometry import Geometry
from keyvalise.types.retrieve import Sifting

LONG, QUERIES, SAMPLED, ROUNDS = 131072, 48, 512, 15
LENGTHS = (8192, 16384, 32768, 65536, LONG)
RECENT = 64
"""Tokens that are in no unit."""

OURS = "clusters(8, by=distance) > spread > read(1.8%) > estimate(23.2%)"
SIFTED = "clusters(32, by=distance) > spread > each > sift(1.8%, within=25%)"
SYSTEMS = (
    "retroinfer",
    "retroinfer > leave",
    OURS,
    SIFTED,
    SIFTED.replace("> each", ""),
    OURS.replace("clusters(8", "clusters(16"),
    "quest(read=1.8%)",
    "pages > ball > peak > read(1.8%)",
    "pages > read(1.8%)",
    "topk(read=1.8%)",
)
WALKED = "retrievalattention(read=1.8%)"

ANSWERING = (
    "retroinfer(block=256)",
    OURS.replace("read(1.8%)", "read(1.8%, block=256)"),
    SIFTED.replace("25%)", "25%, block=256)"),
)
MOST_TOKENS = 3584
"""Documents of the longest context in which questions and answers still fit."""

COSTS = {
    "": "retroinfer(segment=1024)",
    "-fixed": "retroinfer(segment=1024, read=1024, estimate=4096)",
}
"""How long the stretches are that are cut at a time changes what filling costs, not a step."""


def indexed(text: str, context: stretched.Context, asked: Tensor) -> Indexed:
    """A context in units as a recipe cuts it, all but its newest tokens; `asked` [Hq, m, D] is what parts may
    learn from.
    """
    reader = Recipe.parse(text).reader
    assert reader is not None
    n_heads, n, dim = context.keys.shape
    shape = Geometry(
        1, len(context.queries), n_heads, dim, context.values.shape[-1], torch.float32, dim**-0.5
    )
    env = Env(0, shape, prompt=(n,), seen=(n,))
    old = slice(0, n - RECENT)
    run = flat.Flat(
        (1, n_heads),
        (n - RECENT,) * n_heads,
        context.keys[:, old].flatten(0, 1),
        context.values[:, old].flatten(0, 1),
        torch.arange(n - RECENT, dtype=torch.int32).repeat(n_heads),
        None,
        {},
    )
    names = SampleObserver(SAMPLED).names
    sampled = asked[None, :, :SAMPLED], torch.arange(SAMPLED, dtype=torch.int32)[None]
    return Indexed(reader, env).grown(Ragged.of(run), env, dict(zip(names, sampled, strict=True)))


def looked_at(segment: Indexed, queries: Queries) -> Tensor:
    """bool [Hq, n]: the entries that a step reads, by ordinal, without the newest."""
    reads, _ = segment.search(queries)
    (block,), n_query, read = segment.blocks, queries.q.shape[1], segment.retrieve.read
    n_heads, n = block.held.shape[1], max(segment.counts)
    found = torch.zeros(n_query, n, dtype=torch.bool)
    found[:, : read.sinks] = True
    ordinals, edges = block.held.places.all().long(), block.held.bounds
    if isinstance(read, Sifting):
        ((order, counts),) = sifted.picked([block], [reads.exact], queries, read.amount)
        lists = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        for asker in range(n_query):
            found[asker, ordinals[order[lists == asker * len(counts) // n_query]]] = True
        return found
    ends = block.padded(block.ends)[0].long()
    for asker in range(n_query):
        head, listed = asker * n_heads // n_query, reads.exact[0, asker * reads.exact.shape[1] // n_query]
        units = listed[listed >= 0]
        end = ends[head, units]
        begin = torch.where(units > 0, ends[head, units - 1], 0)
        found[asker, ordinals[edges[head] + flat.runs(begin, end - begin)]] = True
    return found


def found(layer: int, systems: tuple[str, ...]) -> cases.Figure:
    """Softmax mass and output error of every system, and of exact search for as many entries per query."""
    context = stretched.context(layer, LONG, QUERIES + SAMPLED)
    asked, tested = context.queries[:, QUERIES:], context.queries[:, :QUERIES]
    group = len(tested) // len(context.keys)
    keys, values = (x.repeat_interleave(group, 0) for x in (context.keys, context.values))
    sides: dict[str, dict[str, Any]] = {}
    for text in systems:
        segment = indexed(text, context, asked)
        rows = [_row(segment, tested[:, i], keys, values) for i in range(QUERIES)]
        names = ("read", "mass", "mass_exact", "error", "error_exact")
        sides[text] = {
            name: round(sum(column) / len(rows), 6)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
        sides[text]["index_bytes"] = sum(x.nbytes for name, _, x in segment.tensors() if name == "index")
        sides[text]["bytes"] = 2 * (context.keys.numel() + context.values.numel())
    targets = []
    for text, side in sides.items():
        label = f"{text}, layer {layer}"
        share, error = side["mass"] / side["mass_exact"], side["error"] / side["error_exact"]
        if text in ("retroinfer", OURS, SIFTED):
            targets.append(cases.Target(f"{label}: mass read, of exact search's", share, 0.95, at_least=True))
        if text in ("retroinfer", OURS):
            targets.append(cases.Target(f"{label}: output error, of exact search's", error, 1.0))
    settings = {"tokens": LONG, "layer": layer, "queries": QUERIES, "model": "reference"}
    return cases.Figure(settings, sides, targets)


def _row(segment: Indexed, q: Tensor, keys: Tensor, values: Tensor) -> tuple[float, ...]:
    """Share of entries read, mass of the full softmax in them and in the best as many, output errors of both;
    means over query heads of one step.
    """
    n, shape = keys.shape[1], segment.env.geometry
    queries = Queries(q[None, :, None], Stretch.whole(1, (n,)), shape, None)
    logits = shape.scale * torch.einsum("hd,hnd->hn", q, keys)
    weights = logits.softmax(-1)
    exact = torch.einsum("hn,hnd->hd", weights, values)
    is_read = torch.cat([looked_at(segment, queries), torch.ones(len(q), RECENT, dtype=torch.bool)], 1)
    counts = is_read.sum(1)
    best = logits.sort(-1, descending=True).indices
    is_best = torch.zeros_like(is_read).scatter_(1, best, torch.arange(n) < counts[:, None])
    own = segment.attend(queries)[0]
    newest = attend.dense(
        q[None, :, None],
        keys[None, :: len(q) // shape.n_kv_heads, -RECENT:],
        values[None, :: len(q) // shape.n_kv_heads, -RECENT:],
        scale=shape.scale,
    )
    out = attend.merge((own.out, own.lse), newest)[0][0, :, 0]
    kept = (weights * is_best) / (weights * is_best).sum(-1, keepdim=True)
    errors = [
        float(((one - exact).norm(dim=-1) / exact.norm(dim=-1)).mean())
        for one in (out, torch.einsum("hn,hnd->hd", kept, values))
    ]
    masses = [float((weights * picked).sum(-1).mean()) for picked in (is_read, is_best)]
    return float(counts.float().mean()) / n, *masses, *errors


def large(n: int) -> tuple[Tensor, Tensor]:
    """Keys and values [1, 8, n, 128]: four heads of the reference model side by side make one."""
    made = [stretched.context(layer, n, 1, seed=seed) for seed in range(2) for layer in range(4)]
    keys, values = (
        torch.stack([getattr(part, name).transpose(0, 1).flatten(1) for part in made])
        for name in ("keys", "values")
    )
    return keys[None], values[None]


def small(n: int) -> tuple[Tensor, Tensor]:
    """Keys and values [1, 4, n, 32] of one layer of the reference model."""
    made = stretched.context(1, n, 1)
    return made.keys[None], made.values[None]


def cost(name: str, recipe: str) -> cases.Figure:
    """A step of one layer at several lengths, and our full read of 16k."""
    shape, make = {
        "large": (models.LARGE, large),
        "reference": (models.Shape(1, 8, 4, 32), small),
    }[name]
    dtype, caches = torch.bfloat16, {}
    model = models.llama(shape, dtype)
    keys, values = (x.to(dtype) for x in make(LONG))
    for n in LENGTHS:
        caches[f"{recipe} at {n // 1024}k"] = _filled(model, recipe, keys, values, n)
    caches["full at 16k"] = _filled(model, "full", keys, values, 16384)
    sides = decode.turns(model, caches, ROUNDS)
    took = {side: numbers["median_ms"] for side, numbers in sides.items()}
    longest, least = took[f"{recipe} at 128k"], took[f"{recipe} at 8k"]
    label = f"{recipe}, {name} layer"
    targets = [
        cases.Target(f"{label}: a step at 128k, of one at 8k", longest / least, 2.5),
        cases.Target(f"{label}: a step at 128k, of a full read of 16k", longest / took["full at 16k"], 1.0),
    ]
    settings = {"dtype": "bf16", **vars(shape), "recipe": recipe, "threads": torch.get_num_threads()}
    return cases.Figure(settings, sides, targets)


def _filled(model: LlamaForCausalLM, recipe: str, keys: Tensor, values: Tensor, n: int) -> KVCache:
    """A cache of the first n tokens."""
    cache: KVCache = models.fill(model, KVCache(model, recipe), keys[:, :, :n], values[:, :, :n])
    return cache


def slow(tier: str) -> cases.Figure:
    """What steps bring from a slower tier, of all that the cache holds, while a text goes on."""
    n, steps = 4096, 64
    model, tokenizer = keyvalise.reference()
    task = keyvalise.tasks.generate("records", tokens=n - 2 * steps, seed=stretched.SEED, kind="dense")
    text = tokenizer(task.document + " " + " ".join(task.questions)).input_ids[: n - 1]
    ids, sides = torch.tensor([text]), {}
    for recipe in (f"retroinfer > {tier}", f"retroinfer > {tier}(cache=0)"):
        cache = KVCache(model, recipe)
        with torch.no_grad():
            model(ids[:, :-steps], past_key_values=cache)
            brought = []
            for i in range(ids.shape[1] - steps, ids.shape[1]):
                model(ids[:, i : i + 1], past_key_values=cache)
                brought.append(cache.shared.slow.step_bytes)
        fields = cache.ledger().by_field()
        total = cache.seen * 4 * 2 * 4 * 32 * 4
        sides[recipe] = {
            "read": round(sum(brought) / len(brought) / total, 5),
            "most": round(max(brought) / total, 5),
            "index": round(fields.get("index", 0) / total, 5),
            "hot": round(fields.get("hot", 0) / total, 5),
        }
    share = sides[f"retroinfer > {tier}"]["read"]
    targets = [cases.Target(f"retroinfer on {tier}: bytes read a step, of the cache", share, 0.03)]
    return cases.Figure({"tokens": n, "steps": steps, "model": "reference", "dtype": "fp32"}, sides, targets)


def answers(n_questions: int) -> cases.Figure:
    """Right answers about documents as long as the model can read, while every step of an answer reads
    little.
    """
    model, tokenizer = keyvalise.reference()
    right: dict[str, list[bool]] = {text: [] for text in ("full", *ANSWERING)}
    for document in wide.documents(wide.TASKS, wide.KINDS, MOST_TOKENS, n_questions, stretched.SEED):
        task = document.generate()
        for text, marks in right.items():
            said = keyvalise.answer(model, tokenizer, task.document, task.questions, text, max_new_tokens=12)
            marks += [one == expected for one, expected in zip(said, task.answers, strict=True)]
    sides: dict[str, dict[str, Any]] = {}
    for text, marks in right.items():
        differs = sum(a != b for a, b in zip(marks, right["full"], strict=True))
        sides[text] = {
            "right": round(sum(marks) / len(marks), 4),
            "differs": differs,
            "questions": len(marks),
        }
    whole = sides["full"]["right"]
    targets = [
        cases.Target(f"{text}: right answers, of full's", sides[text]["right"] / whole, 0.99, at_least=True)
        for text in ANSWERING
    ]
    return cases.Figure({"tokens": MOST_TOKENS, "model": "reference", "dtype": "fp32"}, sides, targets)


CASES = {
    "answers": partial(answers, 12),
    **{f"found-{layer}": partial(found, layer, SYSTEMS) for layer in range(4)},
    "walked-1": partial(found, 1, ("topk(read=1.8%)", WALKED)),
    **{
        f"cost-{name}{suffix}": partial(cost, name, recipe)
        for name in ("large", "reference")
        for suffix, recipe in COSTS.items()
    },
    **{f"slow-{tier}": partial(slow, tier) for tier in ("host", "disk")},
}

if __name__ == "__main__":
    sys.exit(cases.main("retrieval", CASES))
