"""Where compiled kernels are kept, and how several processes share the folder.

A file appears by renaming, after a digest of its bytes: one that is cut short or was changed is not
taken for what it should be.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def folders(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where to look, best first: $XDG_CACHE_HOME/inferd/kernels or below ~/.cache; then, where that
    cannot be written, a folder of this user's below the one for temporary files."""
    base = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    temporary = Path(tempfile.gettempdir()) / f"inferd-kernels-{os.getuid()}"
    return (Path(base) / "inferd" / "kernels", temporary)


def usable(folder: Path) -> str:
    """Make the folder; the reason why it cannot be used, or "".

    One that others can write to is not: what lies there is loaded into this process.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        return str(error)
    if not trusted(folder):
        return f"{folder} belongs to others, who could put their code there"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written ({stat.filemode(status.st_mode)})"
    return ""


def trusted(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user or root, whom alone it lets write."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    writable_by_others = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    owned = status.st_uid in (0, os.getuid())
    return stat.S_ISDIR(status.st_mode) and owned and not writable_by_others


def intact(file: Path) -> bool:
    """Whether these are the bytes that were stored."""
    try:
        return _digest(file) == _digest_file(file).read_text()
    except OSError:
        return False


def store(made: Path, file: Path) -> None:
    """Move `made`, which lies on the same file system, to `file`."""
    _digest_file(file).write_text(_digest(made))
    made.rename(file)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; let go of by the system when that one dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` entries of a folder; those that vanish are gone anyway."""
    entries = sorted(folder.iterdir(), key=_changed, reverse=True)
    for entry in entries[keep:]:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest_file(file: Path) -> Path:
    return file.with_name(file.name + ".sha256")
