"""The architecture of the reference model and the weights it starts from.

Training from noise spends its first minutes on finding a previous-token head and an induction head. The start
below writes down a faint version of both, as directions in the residual stream that training may change:

    dim 0        one constant, the same for every token
    dims 1-63    the token itself
    dims 64-191  what layer 0 copies from the tokens 1-5 places back, 16 dims for each query head
    layer 1      attends where the tokens before equal the tokens before here, and copies the next one

Layers 2 and 3 and all feed-forward parts start from noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 192, 8, 4, 32, 4
THETA = 1e7
IDENTITY = slice(1, 64)
COPY_DIMS = 16
OFFSETS = (1, 2, 2, 3, 3, 4, 4, 5)
SHARPNESS = (14.0, 12.0, 8.0, 6.0, 5.0, 4.0, 3.0, 3.0)
MATCH = (1.2, 1.4, 1.4, 0.9, 1.2)
SPREAD = 0.08


def config(n_tokens: int, *, bos: int, eos: int, pad: int) -> LlamaConfig:
    """Llama, 4 layers, 8 query heads over 4 kv heads of 32, tied embeddings."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )


def fresh_model(settings: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """An untrained model with the start described above; the same for the same seed."""
    import torch
    from transformers import LlamaForCausalLM

    noise = torch.Generator().manual_seed(seed)
    model = LlamaForCausalLM(settings).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                scale = 0.015 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.04
                weight.copy_(torch.randn(weight.shape, generator=noise) * scale)
        _write_tokens(model.model.embed_tokens.weight, noise)
        readers = [_orthogonal(noise, IDENTITY.stop - 1, COPY_DIMS) for _ in range(KV_HEADS)]
        _write_copying(model.model.layers[0].self_attn, readers)
        _write_matching(model.model.layers[1].self_attn, readers[0], noise)
    return model


def _orthogonal(noise: Generator, n_in: int, n_out: int) -> Tensor:
    import torch

    columns: Tensor = torch.linalg.qr(torch.randn(n_in, n_out, generator=noise)).Q
    return columns.T


def _write_tokens(weight: Tensor, noise: Generator) -> None:
    import torch

    weight.mul_(0.1)
    weight[:, 0] = 4 * SPREAD
    weight[:, IDENTITY] = torch.randn(len(weight), IDENTITY.stop - 1, generator=noise) * SPREAD


def _write_copying(attention: object, readers: list[Tensor]) -> None:
    """Layer 0: query head h attends `OFFSETS[h]` tokens back by rotary phase and copies 16 dims."""
    q, k, v, o = (getattr(attention, f"{name}_proj").weight for name in "qkvo")
    for weight in (q, k, v, o):
        weight.mul_(0.2)
    constant = 4 / math.sqrt((16 + IDENTITY.stop - 1) / HIDDEN)
    half = HEAD_DIM // 2
    for pair, sharpness in enumerate(SHARPNESS):
        size = math.sqrt(sharpness * math.sqrt(HEAD_DIM)) / constant
        for head, offset in enumerate(OFFSETS):
            angle = offset * THETA ** (-pair / half)
            q[head * HEAD_DIM + pair, 0] = size * math.cos(angle)
            q[head * HEAD_DIM + pair + half, 0] = -size * math.sin(angle)
            k[head // 2 * HEAD_DIM + pair, 0] = size
    for head in range(HEADS):
        group = head // 2 * HEAD_DIM
        v[group : group + COPY_DIMS, IDENTITY] = 0.5 * readers[head // 2]
        for row in range(COPY_DIMS):
            o[_copied(head).start + row, head * HEAD_DIM + row] = 0.1


def _copied(head: int) -> slice:
    return slice(IDENTITY.stop + head * COPY_DIMS, IDENTITY.stop + (head + 1) * COPY_DIMS)


def _write_matching(attention: object, reader: Tensor, noise: Generator) -> None:
    """Layer 1: compare the copies here with the copies one place later there; bring back the token found."""
    q, k, v, o = (getattr(attention, f"{name}_proj").weight for name in "qkvo")
    quarter = HEAD_DIM // 4
    slow = [*range(quarter, 2 * quarter), *range(3 * quarter, 4 * quarter)]
    for group in range(KV_HEADS):
        keys = [group * HEAD_DIM + row for row in slow]
        queries = [[(2 * group + twin) * HEAD_DIM + row for row in slow] for twin in (0, 1)]
        mixers = [_orthogonal(noise, COPY_DIMS, COPY_DIMS) * scale for scale in MATCH]
        k[keys, _copied(0)] = mixers[0]
        q[queries[1], IDENTITY] = mixers[0] @ reader
        for back in range(4):
            k[keys, _copied(2 * back + 1)] = mixers[back + 1]
            for rows in queries:
                q[rows, _copied(2 * back)] = mixers[back + 1]
        _bring_back(v, o, group)


def _bring_back(v: Tensor, o: Tensor, group: int) -> None:
    start = IDENTITY.start + group % 2 * HEAD_DIM
    for row in range(min(HEAD_DIM, IDENTITY.stop - start)):
        v[group * HEAD_DIM + row, start + row] = 1.0
        for head in (2 * group, 2 * group + 1):
            o[start + row, head * HEAD_DIM + row] = 0.04
