"""Relations of systems that look at all layers at once."""

from __future__ import annotations

import torch
from torch.nn import functional

from keyvalise import KVCache
from keyvalise.host import assets
from keyvalise.score.norm_logit import NormLogitScore
from keyvalise.types.data import Entries, Env
from tests.laws.faithful.table import N, best, kept, of
from tests.support import drive, stock
from tests.support.models import tiny


def states() -> tuple[torch.Tensor, torch.Tensor]:
    """(embeddings, last states) [N, E] of the prompt, from the model itself."""
    ids = drive.text(N).ids
    with torch.no_grad():
        out = stock.eager().model(ids)
        return stock.eager().get_input_embeddings()(ids)[0], out.last_hidden_state[0]


@of("normxlogit")
def the_length_of_the_embedding_times_the_logit_of_the_prediction() -> None:
    embedded, final = states()
    unembed = stock.eager().get_output_embeddings().weight
    target = unembed[int((unembed @ final[-1]).argmax())]
    for how, mapped in (("raw", final @ target), ("softplus", functional.softplus(final @ target))):
        score = (embedded.norm(dim=-1) * mapped).detach().expand(4, -1)
        want = best(score, 20, sinks=1)
        assert kept(f"normxlogit(map={how}) @ 20tok") == [want] * 3


@of("normxlogit")
def a_louder_unembedding_changes_no_ranking() -> None:
    env = Env(0, KVCache(tiny("llama")).shared.geometry, prompt=(9,))
    live = torch.ones(1, 4, 9, dtype=torch.bool)
    places = torch.arange(9, dtype=torch.int32).expand(1, 4, 9)
    entries = Entries(live.sum(-1).int(), live, places, None, {}, torch.Tensor, torch.Tensor)
    embedded, final, unembed = torch.randn(1, 9, 64), torch.randn(1, 9, 64), torch.randn(50, 64)
    seen = {"hidden:embed": embedded, "hidden:final": final}

    def scores(weight: torch.Tensor) -> torch.Tensor:
        env.weights["unembed"] = weight  # type: ignore[index]
        return NormLogitScore(map="raw").survey([(env, entries, {})], seen)[0].values

    one, three = scores(unembed), scores(3 * unembed)
    assert torch.allclose(3 * one, three, rtol=1e-5)
    short = {"hidden:embed": torch.ones(1, 9, 64), "hidden:final": final}
    lengths = NormLogitScore(map="raw").survey([(env, entries, {})], short)[0].values
    assert torch.equal(lengths.argsort(-1), (one / embedded.norm(dim=-1)).argsort(-1))


@of("ehpc")
def the_evaluators_choose_for_all_layers() -> None:
    model, w = tiny("llama"), 9
    cache = KVCache(model, f"ehpc(window={w}) @ 25tok")
    heads = cache.shared.fixed["evaluators"]["heads"]
    (layer,) = (i for i in range(3) if bool((heads[i] > 0).any()))
    votes = stock.prompt(N).attention[layer][heads[layer] > 0][:, -w:].mean(1).sum(0)
    pooled = functional.avg_pool1d(votes[None], 33, 1, 16)
    want = best(pooled.expand(4, -1), 25, recent=w)
    assert kept(f"ehpc(window={w}) @ 25tok") == [want] * 3


@of("ehpc")
def layers_behind_the_evaluators_change_nothing() -> None:
    model = tiny("llama")
    before = kept("ehpc(window=9) @ 25tok")
    heads = KVCache(model, "ehpc(window=9) @ 25tok").shared.fixed["evaluators"]["heads"]
    layer = int(heads.sum(1).argmax())
    assert layer < 2, "the tiny profile names a layer with another behind it"
    mark, weight = assets.fingerprint(model), model.model.layers[2].mlp.down_proj.weight
    as_it_was = weight.detach().clone()  # other tests compare this model's answers bit by bit
    with torch.no_grad():
        weight.mul_(1.5)
        try:
            assert assets.fingerprint(model) == mark
            assert kept("ehpc(window=9) @ 25tok") == before
        finally:
            weight.copy_(as_it_was)
