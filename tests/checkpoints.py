"""Checkpoints as small as they get, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferd.errors import StartError
from inferd.hub import Hub
from inferd.weights import resolve


def safetensors(elements: int = 4) -> bytes:
    """A file with one float32 vector."""
    entry = {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * elements)


MODEL = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "chat_template.jinja": b"",
    "merges.txt": b"",
    "model.safetensors": safetensors(),
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def failure(*args: str | None, hub: Hub = Hub()) -> StartError:  # noqa: B008 (frozen)
    with pytest.raises(StartError) as caught:
        resolve(*args, hub=hub)
    return caught.value
