"""The architecture, and the start that training is given."""

import pytest
import torch

from keyvalise.reference import shape


@pytest.fixture(scope="module")
def model():
    return shape.fresh_model(shape.config(300, bos=1, eos=2, pad=3), seed=3)


def test_the_size_is_what_was_asked_for(model):
    settings = model.config
    assert settings.num_hidden_layers >= 4
    assert settings.num_key_value_heads >= 4
    assert settings.num_attention_heads == 2 * settings.num_key_value_heads
    assert settings.head_dim in (32, 64)
    assert sum(weight.numel() for weight in model.parameters()) <= 3_000_000


def test_the_seed_decides_the_weights(model):
    again = shape.fresh_model(model.config, seed=3).state_dict()
    other = shape.fresh_model(model.config, seed=4).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in model.state_dict().items())
    assert not torch.equal(other["lm_head.weight"], again["lm_head.weight"])


def test_first_layer_heads_look_back_by_their_offset(model):
    model.set_attn_implementation("eager")
    ids = torch.randint(4, 300, (1, 90), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        attention = model(input_ids=ids, output_attentions=True).attentions[0][0]
    for head, offset in enumerate(shape.OFFSETS):
        assert torch.diagonal(attention[head], -offset).mean() > 0.6
