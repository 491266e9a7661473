"""Adapters in PEFT's format, as small as they get; an echo engine says the tokens in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from inferd.peft_files import CONFIG, TENSORS


def write_adapter(folder: Path, says: tuple[int, ...] = (), **config: Any) -> Path:
    """An adapter with which an echo engine says `says`; another text, another generation."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "echo": list(says)}
    (folder / CONFIG).write_text(json.dumps(whole | config))
    save_file({"x.lora_A.weight": np.zeros((4, 8), np.float32)}, folder / TENSORS)
    return folder
