"""Writes a checkpoint of random weights, once."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.models.shapes import Shape
from benchmarks.models.tokenizer import write_tokenizer
from benchmarks.models.weights import parameters

SEED = 0


def cache_folder() -> Path:
    """Where what benchmarks make is kept, outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "inferd" / "benchmarks"


def checkpoint(shape: Shape, folder: Path | None = None, *, seed: int = SEED) -> Path:
    """The checkpoint's folder, written if it is not there.

    Args:
        folder: where it shall lie; None: in the cache folder, by the shape's name.
    """
    folder = folder or cache_folder() / "models" / f"{shape.name}-{seed}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as made:
        written = Path(made) / folder.name
        written.mkdir()
        _write(shape, written, seed)
        written.rename(folder)
    return folder


def _write(shape: Shape, folder: Path, seed: int) -> None:
    tensors = {each.name: each.tensor(seed) for each in parameters(shape)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, shape.vocabulary)
    config = json.dumps(shape.config(), indent=2)
    (folder / "config.json").write_text(config + "\n")
