"""Everything that is refused below the command line, with a piece of the sentence that says so."""

from __future__ import annotations

import json as jsons
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch

import keyvalise
from keyvalise import KVCache, Recipe
from keyvalise.recipe import catalogue, words
from keyvalise.reference import loading
from keyvalise.store import asset
from keyvalise.store import profile as profiles
from keyvalise.types.errors import (
    AssetError,
    BadArgument,
    HostError,
    ImpossibleBudget,
    InputError,
    RecipeError,
    TornForward,
    UnknownName,
    UnmetNeed,
    UnsupportedModel,
)  # fmt: skip
from keyvalise.types.quantity import Budget
from tests.support.misuses import (
    Words,
    answer,
    book,
    bytes_of_codes,
    compiled,
    drafted_on_latents,
    drafted_over_layers,
    embeddings_without_ids,
    ends_inside_on_latents,
    from_queries,
    growing_rotation,
    heads,
    holes,
    json,
    moved_away,
    nobody_marked,
    not_causal,
    odd,
    other_rows,
    ours,
    profile,
    ready_made,
    recipe,
    stored,
    torn,
    unknown_rotation,
)
from tests.support.models import tiny
from tests.support.refused_exchange import ROWS as EXCHANGE
from tests.support.refused_files import ROWS as FILES
from tests.support.refused_readers import ROWS as READERS
from tests.support.refused_stores import ROWS as STORES
from tests.support.refused_streams import ROWS as STREAMS

STAGE = {
    "when": [{"at": "prompt"}],
    "parts": [{"part": name} for name in ("knorm", "uniform", "top", "drop")],
}
MIXED = "at prompt: knorm > drop(positions=slot) @ 9%; every 4: knorm @ 9%"
TWO_SETS = "knorm @ 9%; every 4: window > layer @ 9%"
ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    RecipeError: [
        (lambda: Budget.parse("0%"), "a budget must be positive, got 0%"),
        (lambda: Budget.parse("101%"), "more than the full cache; write at most 100%"),
        (lambda: Budget(3, "tok", True), "'of prompt' goes with a percentage, got 3tok"),
        (lambda: Budget.parse("10"), "cannot read the budget '10'; write 10%,"),
        (recipe("knorm @ 9% on x"), "cannot read the layers 'x'; write 2.., ..8"),
        (recipe("knorm @ 9% on 7.."), "'on 7..' names no layer; the model has layers 0 to 2"),
        (recipe("knorm @ 9% on ::0"), "'on ::0' goes no step; write ::1 or more"),
        (json({"stages": [{**STAGE, "when": []}]}), "a stage in JSON says at least once when it acts"),
        (recipe(MIXED), "positions=slot holds for a whole recipe; write it in every stage"),
        (lambda: Recipe.parse(3), "a recipe is written as text, got int"),
        (recipe(""), "character 1 (the end): a recipe has at least one word"),
        (recipe("at prompt: snapkv"), "snapkv is a recipe with stages of its own; it stands first"),
        (recipe("window(1, 2) @ 1%"), "window takes 1 arguments (n), got 2"),
        (recipe("window(1, n=2) @ 1%"), "window is given n twice"),
        (recipe("mean > drop @ 3%"), "the stage 'mean, drop' has no score; it needs one of"),
        (recipe("snapkv(every=0)"), "every=0 is not allowed; every must be a whole number at least 1"),
        (recipe("full(every=4)"), "every needs a stage to repeat, and this recipe has none"),
        (recipe("at prompt: knorm @ 3%; int4 @ 4%"), "this recipe has a budget already"),
        (json("{"), "this is no JSON"),
        (json([]), "an object with a list under 'stages'"),
        (json({"stages": [], "x": 3}), "a recipe in JSON has no field 'x'"),
        (json({"stages": [3]}), "a stage in JSON is an object with lists under 'when' and 'parts', got 3"),
        (json({"stages": [{**STAGE, "parts": []}]}), "names all its parts; act is missing"),
        (json({"stages": [{**STAGE, "when": [{"every": 0}]}]}), "a schedule in JSON is"),
        (json({"stages": [], "code": {"part": "drop"}}), "the part drop has no place here"),
        (json({"stages": [], "code": 3}), "its name under 'part', got 3"),
        (json({"stages": [], "budget": 3}), "expected a text, got 3"),
        (json({"stages": [], "transforms": [3]}), "transforms in JSON are a list beside a code"),
        (recipe("hadamard"), "hadamard changes what a code is given, and there is no code; write one behind"),
        (recipe("hadamard > aquakv"), "hadamard needs a code that writes every head by itself, and aquakv"),
        (recipe("aquakv on 1.."), "aquakv needs all layers: each builds on the one below"),
        (recipe("mass > demote @ 40%; every 4: knorm > drop @ 40%"), "keep losers in different ways; write"),
        (
            recipe("knorm > demote(code=fp16) > int4 @ 60%"),
            "needs a smaller code for losers: they take 68 b",
        ),
    ],
    ImpossibleBudget: [
        (recipe("window > drop"), "has no budget; write one behind it, such as @ 25%"),
        (recipe("h2o(recent=60%, sinks=50%)"), "protects 110% of what it keeps; at most 100%"),
        (recipe("h2o(recent=100%, sinks=4) @ 9tok"), "protects more than it keeps"),
        (recipe("random @ 0.5tok"), "0.5tok is no whole number of tokens; the least is 1tok"),
        (recipe("random @ 1KiB"), "the budget is 1KiB, at least 1584B is needed"),
        (recipe("snapkv @ 31tok"), "protects 32 tokens, 31tok are counted; at least 32tok"),
        (recipe("full @ 50%"), "keeps everything raw needs 100%, got 50%; name a method"),
        (recipe("int4 @ 9tok"), "int4 alone drops no token, so 9tok cannot hold; write a share"),
        (recipe("int4 @ 9%"), "got 9%; drop tokens before they are coded, or allow more"),
        (recipe("knorm > demote @ 1%"), "keeps what it does not choose, which needs at least "),
        (bytes_of_codes, "at least, 9KiB were allowed; drop tokens before they are coded"),
    ],
    UnmetNeed: [
        (lambda: KVCache(tiny("gpt2"), "streaming(positions=slot)"), "the model has no rotary positions"),
        (recipe("streaming(positions=slot) > int4"), "needs raw keys, and int4 writes codes"),
        (recipe("streaming(positions=slot) > adaptive"), "equally many entries in every head"),
        (recipe("tova > adaptive @ 40%"), "when the stage acts again, layer needs sets:layer"),
        (recipe(TWO_SETS), "layer needs sets:layer, which neither the model nor an earlier part"),
        (
            recipe("pyramidkv @ 20%; int4 on 1.."),
            "pyramid needs layers:alike: it moves entries between layers",
        ),
        (
            recipe("center(side=post) > center > int4"),
            "center needs keys as they are stored, center needs keys before their rotation",
        ),
        (
            lambda: KVCache(tiny("deepseek_v3"), "knorm > sample @ 40%"),
            "lets entries weigh more than one, and this model",
        ),
        (growing_rotation, "positions=slot needs rope:static: the model's rotary angles must not change"),
        (from_queries, "window needs queries:piece, which neither the model nor an earlier part"),
    ],
    BadArgument: [
        (recipe("int4(group=40)"), "group=40 is not allowed; group must be at most the head size 16"),
        (recipe("hqq(group=40)"), "group=40 is not allowed; group must be at most the head size 16"),
        (lambda: KVCache(tiny("gpt2"), "pq"), "parts=16 is not allowed; parts must be a divisor of"),
        (recipe("knorm > demote(code=nonsense) @ 40%"), "must be a code in the words of a recipe (recipe"),
        (recipe("knorm > demote(code='window @ 9%') @ 40%"), "such as int2, without stages"),
        (recipe("knorm > demote(code=aquakv) @ 40%"), "a code that writes every head and layer by itself"),
        (recipe("knorm > demote(code=kivi) @ 40%"), "a code that writes tokens one by one; "),
        (
            lambda: catalogue.part("commvq")().check(odd()),
            "head size=15 is not allowed; head size must be even",
        ),
        (
            recipe("plphp(alpha=0.2)"),
            "attentive: alpha=0.2 is not allowed; alpha must be above beta, which is 0.5",
        ),
    ],
    UnknownName: [
        (recipe("snapk @ 9%"), "unknown recipe or part 'snapk'; nearest: snapkv"),
        (recipe("at prompt: windw"), "unknown part 'windw'; nearest: window"),
        (recipe("window(m=3) @ 1%"), "unknown argument of window 'm'; nearest: n"),
        (recipe("snapkv(windo=3)"), "unknown argument of snapkv 'windo'; nearest: window"),
        (lambda: words.changed(catalogue.part("drop")(), "x", 3), "unknown argument of drop 'x'"),
        (lambda: keyvalise.parts("scores"), "unknown room 'scores'; nearest: score"),
        (lambda: catalogue.part("windw"), "unknown part 'windw'; nearest: window"),
        (lambda: catalogue.recipe("snapk"), "unknown recipe 'snapk'; nearest: snapkv"),
    ],
    UnsupportedModel: [
        (lambda: KVCache(tiny("falcon"), "knorm @ 9%"), "FalconForCausalLM computes attention"),
        (lambda: KVCache(tiny("bloom"), prefill_chunk=9), "hands no queries to a cache"),
        (unknown_rotation(None), "turns its keys in a way that is not known here"),
        (unknown_rotation(lambda q, k, c, s: (q, k + 1)), "neither halves nor pairs"),
    ],
    HostError: [
        (ends_inside_on_latents, "the prompt ends inside a forward; let a forward end with the prompt"),
        (drafted_over_layers, "a stage that looks at all layers cannot take drafts back; read the prompt"),
        (embeddings_without_ids, "reads token ids, this call brings embeddings; pass input_ids"),
        (drafted_on_latents, "recipes that drop while decoding cannot take drafts back on this model"),
        (lambda: stored(9).crop(-10), "cannot take back 10 tokens, only 9 were seen"),
        (holes, "the attention mask has holes between real tokens; pad on one side only"),
        (ready_made("llama"), "a ready-made attention mask cannot be applied to a KVCache"),
        (other_rows, "the cache holds 1 rows, the call brings 2"),
        (not_causal, "asks for a mask that is not causal, which a KVCache serves in one call only"),
        (compiled, "a KVCache cannot be traced by torch.compile; run the model eagerly"),
    ],
    InputError: [
        (lambda: loading.model("/nowhere/at/all", "cpu"), "cannot load the model '/nowhere/at/all': "),
        (lambda: loading.model("reference", "abacus"), "cannot use the device 'abacus': "),
        (lambda: KVCache(tiny("llama"), prefill_chunk=0), "prefill_chunk must be at least 1, got 0"),
        (lambda: stored(9).prompt_ends(7), "the prompt cannot end at 7: 9 tokens have been seen"),
        (lambda: stored(9).span("x", 4, 4), "0 <= start < end, got 4 and 4"),
        (
            nobody_marked,
            "drops inside the span 'image' alone, and nobody has marked it; call cache.span('image',",
        ),
        (lambda: stored(9).kept_positions(3), "layer 3 is not handled; handled layers: [0, 1, 2]"),
        (ready_made("deepseek_v3"), "a ready-made 4D mask cannot be applied to a KVCache"),
        (answer(" \n", ["1"]), "the document is empty"),
        (answer("1 " * 513, ["1"]), "has 513 tokens, more than the 512 that the model can read"),
        (lambda: keyvalise.shorten(tiny("llama"), Words(), " ", 9), "the text is empty"),
        (
            lambda: keyvalise.shorten(tiny("llama"), Words(), "1 2 3 " * 9, 16),
            "a budget of 16 tokens does not hold more than the last 16",
        ),
        (answer("1 2", "3"), "questions must be a list of at least one text"),
    ],
    AssetError: [
        (
            recipe("duo(profile=nothing)"),
            "no asset 'nothing' for this LlamaForCausalLM; kept for it: aquakv, classes,",
        ),
        (recipe("pq(codebook='pq@000000')"), "the recipe names 'pq@000000'; name what there is, or put"),
        (recipe("pq(parts=8)"), "made for parts=16, the recipe's pq needs one made for parts=8; give it a"),
        (book(**{"for": 3}), "does not say what it was made for; train one with `keyvalise calibrate"),
        (book(axes={}), "does not say what the axes of its tensors are"),
        (book(axes=dict.fromkeys(("keys", "values"), ["head"] * 5)), "is of another model: keys is [3, 4"),
        (book(scale=1e9), "holds a number in keys that is not finite; make it again"),
        (profile("[0.5, 0.5, 0.5]"), "is of the kind dropped, a part asks for heads"),
        (profile(ours(model="0" * 12)), "was made for the model 000000000000, this LlamaForCausalLM is"),
        (profile("1\t1\t1\n" * 4), "has heads where layers belong; turn its rows into columns"),
        (profile("1\t1\n" * 3), "holds 3 layers of 2 kv heads, the model has 3 layers of 8 query and 4 kv"),
        (profile(jsons.dumps({"9": [1]})), "names layer 9 and head 1; the model has 3 layers of 4 kv heads"),
        (profile(ours(), end=-9), "is damaged: "),
        (profile(ours(), end=40), "is no asset of this library, or its beginning is damaged"),
        (profile(ours(version=7)), "has version 7; this library reads version 1"),
        (profile(ours(shape=(4,))), "must hold a finite number for each of its layers and heads"),
        (profile("a poem"), "is no score file that is known here: could not convert"),
        (heads(activation="softmax"), "name the activation softmax; it must be one of silu, gelu"),
        (heads(fc1=torch.ones(3, 256)), "must hold fc1 [L, E, I] and fc2 [L, H, E]"),
        (heads(fc1=torch.ones(3, 256, 24)), "are transposed: fc1 must be [L, E, 256] and fc2 [L, 4, E], got"),
        (heads(fc2=torch.ones(3, 2, 24)), "are of another model: they hold fc1 [3, 24, 256] and fc2 [3, 2"),
        (heads(fc2=torch.ones(3, 4, 24) / 0), "hold a number in fc2 that is not finite; train them again"),
        (moved_away(asset.read), "cannot read the asset"),
        (moved_away(profiles.read), "cannot read the profile"),
        (lambda: asset.write(Path("/dev/null/x"), asset.Asset("heads", {})), "cannot write the asset"),
    ],
    TornForward: [
        (torn, "stopped half way: the layers have seen 0 to 9 tokens; make a new cache"),
    ],
}
"""error → (what raises it, a piece of what it says)."""

for _kind, _rows in chain.from_iterable(rows.items() for rows in (FILES, EXCHANGE, READERS, STORES, STREAMS)):
    ROWS[_kind] = [*ROWS.get(_kind, []), *_rows]
