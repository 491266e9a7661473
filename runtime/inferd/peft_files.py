"""The files of an adapter in PEFT's format, and how large they may be."""

from __future__ import annotations

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

MAX_CONFIG = 1 << 20  # bytes
MAX_HEADER = 4 << 20  # bytes, of the tensors; 150 each. Parsing holds the interpreter's lock
MAX_BYTES = 16 << 30  # of the tensors
