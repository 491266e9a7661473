"""Adapters made with PEFT's own code: of tiny models, with effects that no tolerance hides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch

from tests.engines.native import tiny

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EIGHT: tuple[Mapping[str, Any], ...] = (
    {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    {"r": 8, "lora_alpha": 24, "target_modules": ALL},
    {"r": 1, "lora_alpha": 3, "target_modules": ["k_proj", "down_proj"]},
    {"r": 16, "use_rslora": True, "target_modules": ["o_proj", "gate_proj"]},
    {"r": 3, "lora_alpha": 5, "target_modules": ["embed_tokens", "lm_head", "up_proj"]},
    {
        "r": 6,
        "target_modules": ["v_proj", "up_proj", "q_proj"],
        "rank_pattern": {"v_proj": 11, "layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"up_proj": 19, r"^model\.layers\.[02]\.self_attn\.v_proj": 1},
    },
    {"r": 5, "target_modules": ["o_proj", "k_proj"], "layers_to_transform": [0, 2]},
    {"r": 7, "use_rslora": True, "target_modules": r".*layers\.[12]\..*(gate|down)_proj"},
)
"""Ranks, scalings and layers of eight adapters for a dense model."""

FUSED: tuple[Mapping[str, Any], ...] = (
    {"r": 4, "target_modules": ["qkv_proj"]},
    {"r": 8, "lora_alpha": 24, "target_modules": "all-linear"},
    {"r": 1, "lora_alpha": 3, "target_modules": ["down_proj"]},
    {"r": 16, "use_rslora": True, "target_modules": ["o_proj", "gate_up_proj"]},
    {"r": 3, "lora_alpha": 5, "target_modules": ["embed_tokens", "lm_head", "gate_up_proj"]},
    {"r": 6, "target_modules": ["qkv_proj", "o_proj"], "rank_pattern": {"qkv_proj": 11}},
    {"r": 5, "target_modules": ["qkv_proj"], "layers_to_transform": [0, 2]},
    {"r": 7, "use_rslora": True, "target_modules": r".*layers\.[12]\..*proj"},
)
"""The same for Phi-3, whose projections are fused in transformers, too."""


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT warns of what is done on purpose here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_adapter(
    model: Path, folder: Path, *, seed: int = 0, std: float = 0.1, **config: Any
) -> Path:
    """Save a random adapter for the checkpoint in `model` by PEFT's `save_pretrained`."""
    with quiet():
        adapted: Any = peft.get_peft_model(tiny.reference(model), peft.LoraConfig(**config))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data.copy_(std * noise)
        adapted.save_pretrained(folder)
    return folder


def reference(model: Path, adapters: Mapping[str, Path]) -> Any:
    """The model in transformers with adapters by name; `set_adapter` chooses one."""
    with quiet():
        adapted: Any = None
        for name, folder in adapters.items():
            if adapted is None:
                base = tiny.reference(model)
                adapted = peft.PeftModel.from_pretrained(base, str(folder), adapter_name=name)
            else:
                adapted.load_adapter(str(folder), adapter_name=name)
    return adapted.eval()
