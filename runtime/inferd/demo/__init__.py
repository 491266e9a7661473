"""The built-in demo model: Qwen3 weights, tokenizer and chat template; and two adapters for it."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The folder that holds the demo model, as `from_pretrained` takes it."""
    return Path(__file__).parent


def adapters() -> dict[str, Path]:
    """The demo model's own adapters: name → PEFT folder. Each changes how it speaks."""
    return {folder.name: folder for folder in sorted((path() / "adapters").iterdir())}
