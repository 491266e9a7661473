"""Adapters for the echo engine, each of which says something of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.web.site_under_test import byte_tokenizer


def write_adapter(folder: Path, says: str, **config: Any) -> str:
    """Make an adapter that answers with `says` over and over. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    echo = byte_tokenizer().encode(says, add_special_tokens=False)
    described = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "echo": list(echo)}
    (folder / "adapter_config.json").write_text(json.dumps(described | config))
    tensors = {"base_model.model.q_proj.lora_A.weight": np.zeros((4, 8), np.float32)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return str(folder)
