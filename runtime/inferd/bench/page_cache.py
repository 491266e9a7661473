"""Which part of a file the system holds in memory, and making it let go (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path


def resident_fraction(files: Iterable[Path]) -> float | None:
    """The share of the files' pages that are in the page cache; None where the system cannot say.

    By mincore(2). It does not read the files.
    """
    total = resident = 0
    for path in files:
        size = path.stat().st_size
        if not size:
            continue
        pages = _resident_pages(path, size)
        if pages is None:
            return None
        total += len(pages)
        resident += sum(page & 1 for page in pages)
    return resident / total if total else None


def drop(files: Iterable[Path]) -> None:
    """Let the system forget the files' clean pages (posix_fadvise). What other processes have
    mapped stays: `resident_fraction` tells."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resident_pages(path: Path, size: int) -> bytes | None:
    """A byte per page, whose lowest bit says whether it is resident."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = bytearray(-(-size // mmap.PAGESIZE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        vector = (ctypes.c_ubyte * len(flags)).from_buffer(flags)
        try:
            failed = libc.mincore(
                ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), vector
            )
        finally:
            del start, vector
    return None if failed else bytes(flags)
