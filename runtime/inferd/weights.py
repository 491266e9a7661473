"""Find the folder of the model that a user named, and check that it is whole."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.errors import StartError
from inferd.hub import Hub, OnProgress, fetch, refuse_unsuitable

DEMO = "demo"
INDEX = "model.safetensors.index.json"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


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


def resolve(
    model: str | None,
    revision: str | None = None,
    *,
    hub: Hub = Hub(),  # noqa: B008 (frozen)
    on_progress: OnProgress = lambda done, total: None,
) -> ModelFolder:
    """The folder of `model`; blocks while it is downloaded.

    Args:
        model: `demo` or nothing, the built-in model; else a local folder; else a hub id,
            `org/name` or `org/name@revision`.
        revision: a branch, tag or commit, for hub ids.

    Raises:
        StartError: `not_found`, `bad_weights`, `unsupported`, `bad_option` or `out_of_disk`.
    """
    if not model or model == DEMO:
        from inferd import demo

        return ModelFolder(verify(demo.path()), DEMO)
    local = Path(model).expanduser()
    if local.exists():
        return ModelFolder(verify(local.absolute()), local.resolve().name)
    repo, at, named = model.partition("@")
    if not _HUB_ID.fullmatch(repo) or repo.startswith(".") or (at and not named):
        raise StartError("not_found", f"There is no folder {model}, and it is not a hub id either")
    if at and revision is not None and revision != named:
        raise StartError("bad_option", f"{model} and the revision {revision!r} contradict")
    path = verify(fetch(repo, named or revision, hub, on_progress))
    return ModelFolder(path, repo, path.name)


def verify(folder: Path) -> Path:
    """`folder`, once it is known to hold a whole model; reads headers, no weights.

    Raises:
        StartError: says which file is missing or damaged.
    """
    if not folder.is_dir():
        hint = "Name the folder that holds it." if folder.suffix == ".safetensors" else ""
        raise StartError("unsupported", f"{folder} is a file, not a model's folder", hint=hint)
    refuse_unsuitable(str(folder), [each.name for each in folder.iterdir()])
    for file in _weight_files(folder):
        _check_file(file)
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """All safetensors files; those that the index names must be among them."""
    if (folder / INDEX).is_file():
        names = _indexed(folder / INDEX)
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise _damaged(
                f"{folder} is not complete: {missing[0]} is missing"
                + (f", and {len(missing) - 1} more" if missing[1:] else "")
            )
        return [folder / name for name in sorted(names)]
    return sorted(folder.glob("*.safetensors"))


def _indexed(index: Path) -> set[str]:
    """The files that a checkpoint's index names; each must be a plain name."""
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        if bad := [name for name in names if Path(name).name != name]:
            raise ValueError(f"it names {bad[0]!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(f"{index} is not a checkpoint's index: {error!r}") from error
    return names


def _check_file(file: Path) -> None:
    """Compare a safetensors header with the file's length.

    Format: https://github.com/huggingface/safetensors#format
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise _damaged(f"{file} is not a safetensors file, or cut short")
        header = stream.read(length)
    try:
        tensors = json.loads(header)
        end = max((_end(v) for k, v in tensors.items() if k != "__metadata__"), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(f"{file} has a damaged header: {error!r}") from error
    if size != 8 + length + end:
        raise _damaged(f"{file} has {size} bytes where its header says {8 + length + end}")


def _end(tensor: dict[str, Any]) -> int:
    _, end = tensor["data_offsets"]
    return int(end)


def _damaged(message: str) -> StartError:
    return StartError("bad_weights", message, hint="Download the checkpoint again.")
