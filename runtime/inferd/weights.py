"""Find the folder of the model that a user named, and check that its weights are whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.errors import StartError
from inferd.hub import Hub, OnProgress, fetch, refuse_unsuitable, repo_of

DEMO = "demo"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_MAX_HEADER = 100_000_000  # bytes; the format's own limit
_SECOND_COPY = "consolidated"  # Mistral's name for the same weights in another layout


@dataclass(frozen=True)
class ModelFolder:
    """A checked local folder: config.json, safetensors, tokenizer files.

    Args:
        name: what the user named: `demo`, a hub id, or a local folder's own name.
        revision: the commit it was fetched at; None for local folders.
    """

    path: Path
    name: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor in a safetensors file, as its header says."""

    file: Path
    dtype: str  # as safetensors spells it: F32, BF16, …
    shape: tuple[int, ...]
    num_bytes: int
    offset: int  # of its first byte, in the file


def resolve(
    model: str | None,
    revision: str | None = None,
    *,
    hub: Hub = Hub(),  # noqa: B008 (frozen)
    on_progress: OnProgress = lambda done, total: None,
    local: bool = True,
) -> ModelFolder:
    """The folder of `model`; blocks while it is downloaded.

    Args:
        model: `demo` or nothing, the built-in model; else a local folder; else a hub id,
            `org/name` or `org/name@revision`.
        revision: a branch, tag or commit, for hub ids.
        local: whether `model` may be a local folder. Where callers name it, `sources` decides.

    Raises:
        StartError: `not_found`, `forbidden`, `bad_weights`, `unsupported`, `bad_option` or
            `out_of_disk`.
    """
    if not model or model == DEMO:
        from inferd import demo

        return ModelFolder(verify(demo.path()), DEMO)
    folder = Path(model).expanduser()
    if local and folder.exists():
        return ModelFolder(verify(folder.absolute()), folder.resolve().name)
    repo, revision = repo_of(model, revision)
    path = fetch(repo, revision, hub, on_progress)
    with told_as(repo, path):
        verify(path)
    return ModelFolder(path, repo, path.name)


@contextmanager
def told_as(name: str, folder: Path) -> Iterator[None]:
    """`StartError`s say `name` where they would say `folder`: callers read them, and where the
    hub's cache lies is for the log alone."""
    try:
        yield
    except StartError as error:
        error.message = error.message.replace(str(folder), name)
        raise


def name_of(model: str) -> str:
    """What `resolve` will call `model`, a local folder or not; without asking a hub."""
    if not model or model == DEMO:
        return DEMO
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.exists() else model.partition("@")[0]


def verify(folder: Path) -> Path:
    """`folder`, once it is known to hold a whole model; reads headers, no weights.

    Raises:
        StartError: says which file is missing or damaged.
    """
    if not folder.is_dir():
        hint = "Name the folder that holds it." if folder.suffix == ".safetensors" else ""
        raise StartError("unsupported", f"{folder} is a file, not a model's folder", hint=hint)
    for file in weight_files(folder):
        read_header(file)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those of its index, or else the only one.

    Raises:
        StartError: `not_found`, `unsupported` (pickles alone) or `bad_weights`.
    """
    names = [each.name for each in folder.iterdir()]
    refuse_unsuitable(str(folder), names)
    if INDEX in names:
        return _indexed_files(folder)
    if SINGLE in names:
        return [folder / SINGLE]
    found = sorted(name for name in names if name.endswith(".safetensors"))
    own = [name for name in found if not name.startswith(_SECOND_COPY)]
    if len(own) > 1:
        raise _damaged(f"{folder} has {len(own)} safetensors files and no {INDEX}")
    return [folder / own[0]]


def read_header(file: Path, most: int = _MAX_HEADER) -> dict[str, TensorInfo]:
    """Name → what and where, for every tensor of a file; compared with the file's length.

    Format: https://github.com/huggingface/safetensors#format. Raises StartError(bad_weights).

    Args:
        most: bytes that the header may have.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise _damaged(f"{file} is not a safetensors file, or cut short")
            if length > most:
                raise _damaged(f"{file} has a header of {length} bytes, and {most} are allowed")
            header = stream.read(length)
    except OSError as error:
        raise _damaged(f"{file} cannot be read: {error}") from error
    try:
        entries = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        tensors = {name: _tensor(file, entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(f"{file} has a damaged header: {error!r}") from error
    said = 8 + length + sum(tensor.num_bytes for tensor in tensors.values())
    if size != said:
        raise _damaged(f"{file} has {size} bytes where its header says {said}")
    return tensors


def _tensor(file: Path, entry: dict[str, Any], data: int) -> TensorInfo:
    begin, end = map(int, entry["data_offsets"])
    if not 0 <= begin <= end:
        raise ValueError(f"a tensor from {begin} to {end}")
    return TensorInfo(file, entry["dtype"], tuple(entry["shape"]), end - begin, data + begin)


def _indexed_files(folder: Path) -> list[Path]:
    """The files that the index names; each must be a plain name, and there."""
    index = folder / INDEX
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        if bad := [name for name in names if Path(name).name != name]:
            raise ValueError(f"it names {bad[0]!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(f"{index} is not a checkpoint's index: {error!r}") from error
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        more = f", and {len(missing) - 1} more" if missing[1:] else ""
        raise _damaged(f"{folder} is not complete: {missing[0]} is missing{more}")
    return [folder / name for name in sorted(names)]


def _damaged(message: str) -> StartError:
    return StartError("bad_weights", message, hint="Download the checkpoint again.")
