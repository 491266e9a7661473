"""Adapters' folders on disk, named by what they hold: LIBRARY/GENERATION/, never changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.errors import InvalidRequest, StartError
from inferd.peft_files import CONFIG, MAX_BYTES, MAX_CONFIG, MAX_HEADER, TENSORS
from inferd.weights import TensorInfo, read_header

GENERATION_CHARS = 32
_CHUNK = 1 << 20
_GENERATION = re.compile(rf"[0-9a-f]{{{GENERATION_CHARS}}}")
_INCOMING = "incoming-"


@dataclass(frozen=True)
class Staged:
    """A copy that is complete and has its generation's id, but is not in the library yet."""

    folder: Path
    generation: str
    base: str = ""  # that its config names, a hub id or a folder; "": none


class Library:
    """The folders. Copies are made beside them and enter by being renamed, so that a crash at
    any moment leaves no half of one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, generation: str) -> Path:
        return self._root / generation

    def has(self, generation: str) -> bool:
        return (self.folder(generation) / TENSORS).is_file()

    def stage(self, source: Path) -> Staged:
        """Copy the adapter in `source` and name the copy by its content; blocks.

        Raises:
            InvalidRequest: names `source`; a file is missing, too large or damaged.
            StartError: `out_of_disk`.
        """
        sizes = {
            name: _checked_size(source, name, limit)
            for name, limit in ((CONFIG, MAX_CONFIG), (TENSORS, MAX_BYTES))
        }
        _header(source / TENSORS)  # before gigabytes are copied in vain
        self._root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._root))
        try:
            for name, size in sizes.items():
                _copy(source / name, folder / name, size)
            return Staged(folder, generation_of(folder), _base(folder))
        except OSError as error:
            self.discard(folder)
            message = f"The adapter could not be copied: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StartError("out_of_disk", message, log=repr(error)) from error
            raise InvalidRequest(message, "source") from error
        except BaseException:
            self.discard(folder)
            raise

    def adopt(self, staged: Staged) -> None:
        """Put a staged copy in its place; one that is there already is the same."""
        if self.has(staged.generation):
            self.discard(staged.folder)
            return
        self.remove(staged.generation)
        os.rename(staged.folder, self.folder(staged.generation))

    def discard(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def remove(self, generation: str) -> None:
        """Forget a generation; nobody may hold it."""
        self.discard(self.folder(generation))

    def generations(self) -> set[str]:
        if not self._root.is_dir():
            return set()
        return {each.name for each in self._root.iterdir() if _GENERATION.fullmatch(each.name)}

    def sweep(self, keep: Collection[str]) -> None:
        """Remove all but `keep`, and what an earlier life left half done."""
        if not self._root.is_dir():
            return
        for each in self._root.iterdir():
            mine = _GENERATION.fullmatch(each.name) or each.name.startswith(_INCOMING)
            if mine and each.name not in keep:
                self.discard(each)


def generation_of(folder: Path) -> str:
    """The id of the adapter in `folder`: the same for the same config and tensors, in whatever
    order the files hold them. Raises `InvalidRequest`."""
    digest = hashlib.sha256()
    config = json.dumps(_config(folder / CONFIG), sort_keys=True, ensure_ascii=True)
    digest.update(_framed(config.encode()))
    file = folder / TENSORS
    tensors = _header(file)
    with file.open("rb") as stream:
        for name in sorted(tensors):
            tensor = tensors[name]
            head = json.dumps([name, tensor.dtype, tensor.shape, tensor.num_bytes])
            digest.update(_framed(head.encode()))
            _add_bytes(digest, stream, tensor)
    return digest.hexdigest()[:GENERATION_CHARS]


def _header(file: Path) -> dict[str, TensorInfo]:
    """Raises `InvalidRequest`."""
    try:
        return read_header(file, MAX_HEADER)
    except StartError as error:
        message = error.message.replace(str(file), TENSORS)
        raise InvalidRequest(message, "source") from error


def _add_bytes(digest: Any, stream: Any, tensor: TensorInfo) -> None:
    stream.seek(tensor.offset)
    left = tensor.num_bytes
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise InvalidRequest(f"{TENSORS} is cut short", "source")
        digest.update(chunk)
        left -= len(chunk)


def _copy(source: Path, target: Path, size: int) -> None:
    """Copy, and have it on the disk: what is stored of a generation must not outlive its files.
    A file that somebody makes longer meanwhile is not followed for ever."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            size -= len(chunk)
            if size < 0:
                raise InvalidRequest(f"{source.name} grows while it is read", "source")
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def _config(file: Path) -> Any:
    """The config, with lists of names sorted: peft writes sets, in any order."""
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{CONFIG} is not JSON: {error}", "source") from error
    if not isinstance(config, dict):
        raise InvalidRequest(f"{CONFIG} is not a JSON object", "source")
    return {key: _sorted_names(value) for key, value in config.items()}


def _base(folder: Path) -> str:
    named = _config(folder / CONFIG).get("base_model_name_or_path")
    return named if isinstance(named, str) else ""


def _sorted_names(value: Any) -> Any:
    names = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return sorted(value) if names else value


def _checked_size(source: Path, name: str, limit: int) -> int:
    """Bytes of a file that may be copied. Raises `InvalidRequest`."""
    file = source / name
    try:
        if not file.is_file():
            raise InvalidRequest(_missing(source, name), "source")
        size = file.stat().st_size
    except OSError as error:
        raise InvalidRequest(f"The adapter's {name} cannot be read: {error}", "source") from error
    if size > limit:
        raise InvalidRequest(f"The adapter's {name} has {size} bytes; at most {limit}", "source")
    return size


def _missing(source: Path, name: str) -> str:
    if not source.is_dir():
        return "There is no such folder"
    if name == TENSORS and any(source.glob("adapter_model.*")):
        return (
            f"The folder holds no {TENSORS}; other formats can run code when they are read, and "
            "are not loaded"
        )
    return f"The folder is not an adapter in PEFT's format: {name} is missing"
