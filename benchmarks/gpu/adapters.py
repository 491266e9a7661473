"""A LoRA adapter of random numbers for all projections, in PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from inferd.engines.native.decoder import Decoder

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_adapter(folder: Path, model: Decoder, rank: int) -> Path:
    """Write it for `model`, whose MLPs are dense, and return the folder."""
    config, tensors = model.config, {}
    hidden, inner = config.hidden_size, config.intermediate_size
    sizes = {
        "q_proj": (hidden, config.q_size),
        "k_proj": (hidden, config.kv_size),
        "v_proj": (hidden, config.kv_size),
        "o_proj": (config.q_size, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    generator = torch.Generator().manual_seed(0)
    for layer in range(len(config.layers)):
        for name in PROJECTIONS:
            inputs, outputs = sizes[name]
            block = "mlp" if name in PROJECTIONS[4:] else "self_attn"
            key = f"base_model.model.model.layers.{layer}.{block}.{name}"
            for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                values = torch.randn(shape, generator=generator).mul_(0.01).to(model.dtype)
                tensors[f"{key}.{part}.weight"] = values
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(PROJECTIONS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
