"""A model's text side: tokenizer, chat template, generation defaults."""

from __future__ import annotations

from pathlib import Path


class TextModel:
    """What turns text into token ids and back for one model; immutable."""


def load_text(folder: Path) -> TextModel:
    """Read the text side of the checkpoint in `folder`. Raises `StartError`."""
    return TextModel()
