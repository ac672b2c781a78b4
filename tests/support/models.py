"""Tiny random models of many families, deterministic and quick to build."""

from __future__ import annotations

import functools
from typing import Any

import torch
import transformers as hf

from tests.support import profiles

VOCABULARY = 509
"""Enough for a text in which no token comes twice: equal tokens have equal keys, and ties hide mistakes."""

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}
_GQA = {**_SMALL, "head_dim": 16}
_ALTERNATING = ["sliding_attention", "full_attention", "full_attention"]

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GQA),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**_GQA, "sliding_window": 24}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _GQA),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**_SMALL, "pad_token_id": 0}),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GQA, "sliding_window": 24, "layer_types": _ALTERNATING},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**_GQA, "sliding_window": 24, "layer_types": _ALTERNATING},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**_SMALL, "rotary_pct": 0.5}),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 64,
            "n_layer": 3,
            "n_head": 8,
            "n_positions": 512,
            "initializer_range": 0.2,
        },
    ),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "ffn_dim": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "max_position_embeddings": 512,
            "init_std": 0.2,
        },
    ),
    "mixtral": (
        "MixtralConfig",
        "MixtralForCausalLM",
        {**_SMALL, "num_local_experts": 4, "sliding_window": None},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        {
            **_GQA,
            "num_hidden_layers": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
        },
    ),
    "gpt_oss": (
        "GptOssConfig",
        "GptOssForCausalLM",
        {
            **_GQA,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 24,
            "layer_types": _ALTERNATING,
        },
    ),
    "llama4": (
        "Llama4TextConfig",
        "Llama4ForCausalLM",
        {
            **_GQA,
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 96,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 24,
            "no_rope_layers": [1, 1, 1, 0],
            "attn_temperature_tuning": False,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        {
            **_SMALL,
            "num_key_value_heads": 8,
            "moe_intermediate_size": 32,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 24,
            "q_lora_rank": 32,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "falcon": (
        "FalconConfig",
        "FalconForCausalLM",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "num_kv_heads": 4,
            "new_decoder_architecture": True,
            "initializer_range": 0.2,
        },
    ),
    "bloom": (
        "BloomConfig",
        "BloomForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 3, "n_head": 8, "initializer_range": 0.2},
    ),
}

HANDLED = tuple(name for name in CONFIGS if name not in ("deepseek_v3", "falcon", "bloom"))
DENSE = ("deepseek_v3", "falcon", "bloom")


@functools.cache
def tiny(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model of a family in evaluation mode, with profiles, the same one at every call; `changes` of
    its configuration.
    """
    config_name, model_name, arguments = CONFIGS[family]
    settings = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
        "initializer_range": 0.2,
        **arguments,
        **changes,
    }
    config = getattr(hf, config_name)(**settings)
    torch.manual_seed(7)
    model = getattr(hf, model_name)(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                parameter.normal_()
    return profiles.give(model)


def prompts(n_rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Random token ids [n_rows, length] without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, VOCABULARY, (n_rows, length), generator=generator)
