"""From a checkpoint's files to parameters: names and shapes are checked, then tensors are read.

Files are memory-mapped (`safetensors.safe_open`) and every parameter is copied once into memory of
its own, cast and fused on the way: the peak is the model plus one tensor. The mapped pages are the
system's page cache, which it may take back at any time; nothing keeps pointing into the files, so
that replacing a checkpoint on disk cannot harm a running model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from inferd.errors import StartError
from inferd.weights import TensorInfo, read_header, weight_files

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

OnProgress = Callable[[int, int], None]
"""(bytes read, bytes in all), counted in the checkpoint's own dtypes."""


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
    dtype: torch.dtype | None = None  # None: the model's
    offset: float = 0.0  # added to every element


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


def load(
    headers: dict[str, TensorInfo],
    params: Sequence[Param],
    *,
    dtype: torch.dtype,
    device: torch.device,
    ignored: Callable[[str], bool],
    on_progress: OnProgress,
) -> dict[str, torch.Tensor]:
    """Read parameters.

    Args:
        headers: of the whole checkpoint.
        dtype: of parameters that have none of their own.
        ignored: names that a checkpoint may hold and this model does not use.

    Returns: key → contiguous tensor on `device`.

    Raises: StartError(bad_weights) that names the tensors that are missing, unexpected or of a
        wrong shape, before anything is read; or the one that could not be read.
    """
    chosen = {param.key: _choose(param, headers) for param in params}
    _check(headers, [source for sources in chosen.values() for source in sources], ignored)
    names = [source.name for sources in chosen.values() for source in sources]
    total = sum(headers[name].num_bytes for name in names)
    done = 0
    reader = _Reader(headers)
    tensors = {}
    for param in params:
        tensor = torch.empty(param.shape, dtype=param.dtype or dtype, device=device)
        flat, start = tensor.view(-1), 0
        for source in chosen[param.key]:
            part = reader.read(source.name).reshape(-1)
            flat[start : start + part.numel()].copy_(part)
            start += part.numel()
            done += headers[source.name].num_bytes
            on_progress(done, total)
        tensors[param.key] = tensor.add_(param.offset) if param.offset else tensor
    return tensors


class _Reader:
    """Open files of a checkpoint, each mapped once."""

    def __init__(self, headers: dict[str, TensorInfo]) -> None:
        self._headers = headers
        self._files: dict[Path, Any] = {}

    def read(self, name: str) -> torch.Tensor:
        path = self._headers[name].file
        try:
            if path not in self._files:
                self._files[path] = safe_open(path, framework="pt")
            tensor: torch.Tensor = self._files[path].get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise bad_weights(f"{name} in {path.name} cannot be read: {error}") from None
        return tensor


def _choose(param: Param, headers: dict[str, TensorInfo]) -> tuple[Source, ...]:
    """The layout that the checkpoint uses; the usual one where it has none of them."""
    for layout in param.layouts:
        if any(source.name in headers for source in layout):
            return layout
    return param.layouts[0]


def _check(
    headers: dict[str, TensorInfo], sources: Sequence[Source], ignored: Callable[[str], bool]
) -> None:
    wanted = {source.name for source in sources}
    _refuse("are missing", (name for name in wanted if name not in headers))
    _refuse(
        "do not belong to this architecture",
        (name for name in headers if name not in wanted and not ignored(name)),
    )
    _refuse(
        "have a wrong shape",
        (
            f"{source.name} {list(headers[source.name].shape)} instead of {list(source.shape)}"
            for source in sources
            if headers[source.name].shape != source.shape
        ),
    )
    for source in sources:
        if (kind := headers[source.name].dtype) not in FLOATS:
            raise StartError(
                "unsupported", f"{source.name} is stored as {kind}; only floats are supported"
            )


def _refuse(what: str, names: Iterable[str]) -> None:
    """Raise bad_weights if there are any."""
    found = sorted(names)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise bad_weights(f"Tensors that {what}: {', '.join(found[:3])}{more}")
