"""The folder in which a daemon keeps what outlives it; one daemon at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from inferd.errors import StartError

LOCK = "lock"

_log = logging.getLogger("inferd.state")


@contextmanager
def state_folder(
    asked: str | None, port: int, environ: Mapping[str, str] = os.environ
) -> Iterator[Path]:
    """The folder, which exists and is this daemon's for as long as the context lasts.

    Args:
        asked: where it is to be. None: `$XDG_STATE_HOME/inferd/PORT`, or, where any port will do,
            a temporary one that goes with the daemon.
        port: as asked for; 0: any.

    Raises:
        StartError: `bad_option`: it cannot be written, or another daemon uses it.
    """
    if asked is None and port == 0:
        with _temporary() as folder:
            yield folder
        return
    try:
        folder = Path(asked).expanduser().absolute() if asked else default_folder(port, environ)
    except RuntimeError as error:  # a user that has no home, as in some containers
        raise StartError(
            "bad_option",
            "There is no folder to keep the state in, since this user has no home",
            hint="Name one with --state-dir DIR.",
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise StartError(
            "bad_option",
            f"The state folder {folder} cannot be written: {error.strerror}",
            hint="Name another with --state-dir DIR.",
        ) from error
    with lock:
        _take(lock, folder)
        yield folder


def default_folder(port: int, environ: Mapping[str, str]) -> Path:
    """Where the state of a daemon at `port` is (XDG Base Directory Specification 0.8)."""
    home = environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()
    return base / "inferd" / str(port)


@contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="inferd-"))
    _log.info(
        "deployments and adapters are kept in %s, and gone when the daemon ends; "
        "--state-dir DIR keeps them",
        folder,
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take(lock: IO[str], folder: Path) -> None:
    """Lock it until it is closed, or the process ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        raise StartError(
            "bad_option",
            f"The state folder {folder} is in use by another inferd (process {lock.read() or '?'})",
            hint="Stop that one, or name another folder with --state-dir DIR.",
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
