"""What a checkpoint's config and headers say, and the parameters that a model makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.errors import StartError
from inferd.weights import TensorInfo, read_header, weight_files


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that a parameter needs from the checkpoint."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the model, made of one tensor or several, one after another in memory.

    `layouts` are the ways in which checkpoints hold it, the usual one first; for instance
    ((q, k, v), (qkv,)).
    """

    key: str
    shape: tuple[int, ...]
    layouts: tuple[tuple[Source, ...], ...]
    float32: bool = False  # whatever the model's dtype
    offset: float = 0.0  # added to every element

    @property
    def columns(self) -> int:
        """Of the parameter as a matrix, whose rows its sources fill from the first to the last; a
        vector is one column."""
        return self.shape[-1] if len(self.shape) > 1 else 1


def bad_weights(message: str) -> StartError:
    return StartError("bad_weights", message, hint="Download the checkpoint again.")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model's folder. Raises StartError(not_found or bad_weights)."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StartError("not_found", f"There is no config.json in {folder}") from None
    except (OSError, ValueError) as error:
        raise bad_weights(f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise bad_weights(f"{path} is not a JSON object")
    return config


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Name → what and where, for every tensor of the checkpoint. Reads no weights.

    Raises StartError, as `weight_files` and `read_header` do.
    """
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file))
    return tensors
