"""The built-in demo model: a folder of Qwen3 weights, tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The folder that holds the demo model, as `from_pretrained` takes it."""
    return Path(__file__).parent
