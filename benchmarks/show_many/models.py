"""A second base model, and adapters for both, made from the demo model in a second.

Nothing is trained: the second base is the demo model with its layers in another order of weights,
the adapters are random. Each of them says something else, which is all that is needed to see who
answered.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from inferd import demo

NOISE = 0.15  # of a weight's own deviation: another model, though still one that tells stories
STRENGTH = 0.5  # of what an adapter adds, measured against what the weights give
RANKS = (4, 8, 16)
MODULES = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj")


def make_base(folder: Path, seed: int) -> Path:
    """A checkpoint like the demo model, with other weights."""
    folder.mkdir()
    for file in demo.path().iterdir():
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(demo.path() / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and "layers" in name:
            wide = tensor.float()
            noise = torch.randn(wide.shape, generator=generator) * wide.std() * NOISE
            tensors[name] = (wide + noise).to(tensor.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_adapter(folder: Path, base: Path, name: str, seed: int) -> Path:
    """An adapter in PEFT's format for the checkpoint `base`.

    Args:
        name: of the base, as it is served.
    """
    folder.mkdir()
    rank = RANKS[seed % len(RANKS)]
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(MODULES),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, weight in load_file(base / "model.safetensors").items():
        module = key.removesuffix(".weight")
        if module.rpartition(".")[2] in MODULES:
            a, b = _factors(weight.float(), rank, generator)
            tensors[f"base_model.model.{module}.lora_A.weight"] = a
            tensors[f"base_model.model.{module}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _factors(
    weight: torch.Tensor, rank: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A [rank, in] and B [out, rank], whose product has `STRENGTH` of the weight's norm."""
    rows, columns = weight.shape
    a = torch.randn(rank, columns, generator=generator)
    b = torch.randn(rows, rank, generator=generator)
    scale = STRENGTH * weight.norm() / (b @ a).norm()
    return a, b * scale
