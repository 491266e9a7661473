"""Tiny random checkpoints of architectures that only the transformers fallback runs, or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.engines.native.tiny import Case

GPT2_SIZES = {"n_embd": 60, "n_layer": 3, "n_head": 6, "n_positions": 128, "n_inner": 88}
MLA = {
    "num_key_value_heads": 6,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 10,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

CASES: dict[str, Case] = {
    "stablelm": Case("StableLm", {"partial_rotary_factor": 0.4}),
    "gpt-neox": Case("GPTNeoX"),
    "gpt2": Case("GPT2", GPT2_SIZES),
    "olmo": Case("Olmo"),
    "olmoe": Case("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "cohere": Case("Cohere"),
    "cohere2": Case(
        "Cohere2",
        {
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "starcoder2": Case("Starcoder2", {"sliding_window": 5}),
    "opt": Case("OPT", {"ffn_dim": 88, "word_embed_proj_dim": 60}),
    "phi": Case("Phi", {"partial_rotary_factor": 0.4}),
    "deepseek-v3": Case("DeepseekV3", MLA),
}
"""What runs on the fallback: layer norms, parallel blocks, learned positions, windows, MLA, MoE."""

REFUSED: dict[str, tuple[Case, str]] = {
    "gpt-oss": (
        Case("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 10}),
        "attention sinks",
    ),
    "falcon-alibi": (Case("Falcon", {"alibi": True}), "ALiBi"),
    "falcon": (Case("Falcon"), "attention interface"),
    "bloom": (Case("Bloom", {"n_layer": 3, "n_head": 6}), "attention interface"),
    "mamba": (Case("Mamba"), "linear_attention"),
    "falcon-h1": (Case("FalconH1"), "hybrid"),
    "llama4": (
        Case("Llama4Text", {"num_local_experts": 2, "head_dim": 10, "intermediate_size_mlp": 88}),
        "chunked_attention",
    ),
    "olmo-dynamic-rope": (
        Case(
            "Olmo",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}},
        ),
        "rotary angles",
    ),
    "t5": (Case("T5"), "encoder"),
}
"""What nothing here runs, and a word of the reason."""


def write_checkpoint(case: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a random checkpoint of one of CASES and return its folder."""
    config = CASES[case].config()
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if "norm" in name or "ln_" in name:
                parameter.add_(1.0)
    model.save_pretrained(folder)
    return folder


def write_config(case: Case, folder: Path) -> Path:
    """Save only a config.json: enough to be refused."""
    config = case.config()
    config.save_pretrained(folder)
    return folder
