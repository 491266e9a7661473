"""What llama.cpp calls the tensors and settings of a Qwen3 checkpoint. Only the standard library.

Source: llama.cpp's gguf package, `constants.MODEL_TENSORS` and `Keys`, for the architecture qwen3.
"""

from __future__ import annotations

import re
from typing import Any

ARCHITECTURE = "qwen3"
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


def tensor_name(name: str) -> str:
    """GGUF's name of a checkpoint's tensor. Raises KeyError for one that qwen3 does not have."""
    if match := _LAYER.fullmatch(name):
        return f"blk.{match[1]}.{_INNER[match[2]]}.weight"
    return _OUTER[name]


def settings(config: dict[str, Any]) -> dict[str, int | float]:
    """GGUF's keys for config.json's values."""
    values = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config["rope_theta"],
        "vocab_size": config["vocab_size"],
    }
    return {f"{ARCHITECTURE}.{key}": value for key, value in values.items()}
