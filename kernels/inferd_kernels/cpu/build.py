"""Compiles the C++ kernels with the system's compiler, once for each source, flags and processor.

A library is kept under a name that tells what it was made from, and loads without any compiler.
Where there is one, the library is also the work of that very compiler, or is made anew. Sources
that did not change are not compiled again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inferd_kernels.cpu import cache
from inferd_kernels.cpu.isa import Isa

SOURCES = Path(__file__).parent.parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility-inlines-hidden",
)
LIBRARY = "libinferd_cpu.so"
KEEP_LIBRARIES = 8  # of older versions and other processors
KEEP_OBJECTS = 400  # files; two for each object
TIMEOUT_S = 600.0

_log = logging.getLogger("inferd.kernels")
_INCLUDE = re.compile(rb'^\s*#include "([^"]+)"', re.MULTILINE)


class BuildError(Exception):
    """There is no library, and why, in a line."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A program and its `identity`, which changes when the program does."""

    path: str
    identity: str


def ensure(isa: Isa, folder: Path | None = None) -> Path:
    """The compiled library for these instructions; built where it is not cached.

    Args:
        folder: the cache's, where it is not the user's own.

    Raises BuildError: no compiler, a compiler's error, or no folder that can be written.
    """
    folders = cache.folders() if folder is None else (folder,)
    name = f"{isa.name}-{_key(isa)[:16]}"
    try:
        compiler = find_compiler()
    except BuildError:
        for each in folders:
            if cache.trusted(each) and cache.intact(each / name / LIBRARY):
                return each / name / LIBRARY
        raise
    for each in folders:
        if cache.trusted(each) and _made_by(compiler, each / name):
            return each / name / LIBRARY
    return _build(compiler, isa, _writable(folders) / name)


def find_compiler(environ: Mapping[str, str] = os.environ) -> Compiler:
    """$CXX, or the first of the usual names. Raises BuildError."""
    named = environ.get("CXX", "")
    for name in (named,) if named else COMPILERS:
        if path := shutil.which(name):
            status = os.stat(path)
            identity = f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"
            return Compiler(path, identity)
    raise BuildError(f"there is no C++ compiler ({named or ', '.join(COMPILERS)})")


def _key(isa: Isa) -> str:
    """Of what the library is made from, and of the system's C library, which it is bound to."""
    files = sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.h")])
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    return _hash([os.environ.get("CXX", ""), libc or "", *FLAGS, *isa.flags], files)


def _hash(texts: Iterable[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in files:
        digest.update(str(file.relative_to(SOURCES)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _made_by(compiler: Compiler, folder: Path) -> bool:
    try:
        same = (folder / "compiler").read_text() == compiler.identity
    except OSError:
        return False
    return same and cache.intact(folder / LIBRARY)


def _writable(folders: Iterable[Path]) -> Path:
    reasons = []
    for folder in folders:
        reason = cache.usable(folder)
        if not reason:
            return folder
        reasons.append(reason)
    raise BuildError(f"they have no place: {'; '.join(reasons)}")


def _build(compiler: Compiler, isa: Isa, folder: Path) -> Path:
    library, objects = folder / LIBRARY, folder.parent / "objects"
    try:
        folder.mkdir(exist_ok=True)
        objects.mkdir(exist_ok=True)
        with cache.locked(folder / "lock"):
            if not _made_by(compiler, folder):  # while this process waited
                _log.info("compiling the C++ kernels for %s, this once", isa.name)
                _remove_leftovers(folder)
                _compile_and_link(compiler, isa, library, objects)
                (folder / "compiler").write_text(compiler.identity)
                cache.prune(objects, KEEP_OBJECTS)
                cache.prune(folder.parent, KEEP_LIBRARIES + 1)
    except OSError as error:
        raise BuildError(f"{folder} cannot be used: {error}") from error
    return library


def _remove_leftovers(folder: Path) -> None:
    """Of builds that were killed."""
    for each in folder.glob("build-*"):
        shutil.rmtree(each, ignore_errors=True)


def _compile_and_link(compiler: Compiler, isa: Isa, library: Path, objects: Path) -> None:
    flags = (*FLAGS, *isa.flags)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as temporary:
        folder = Path(temporary)

        def compiled(source: Path) -> Path:
            parts = (compiler.identity, *flags)
            target = objects / f"{_hash(parts, _with_includes(source))[:32]}.o"
            if cache.intact(target):
                os.utime(target)
                return target
            made = folder / target.name
            command = [compiler.path, *flags, f"-I{SOURCES}", "-c", str(source), "-o", str(made)]
            _run(command, library.parent / "errors.txt")
            cache.store(made, target)
            return target

        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            made_of = list(pool.map(compiled, sorted(SOURCES.rglob("*.cpp"))))
        made = folder / library.name
        link = [compiler.path, "-shared", "-pthread", *map(str, made_of), "-o", str(made)]
        _run(link, library.parent / "errors.txt")
        cache.store(made, library)


def _with_includes(source: Path) -> list[Path]:
    """The file, and those of ours that it includes."""
    found, new = {source}, [source]
    while new:
        for name in _INCLUDE.findall(new.pop().read_bytes()):
            header = SOURCES / name.decode()
            if header not in found and header.is_file():
                found.add(header)
                new.append(header)
    return sorted(found)


def _run(command: list[str], errors: Path) -> None:
    """Raises BuildError with the first error's line; everything is written to `errors`."""
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        errors.write_text(done.stderr)
        lines = done.stderr.strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error:" in line), lines[0])
        raise BuildError(f"{command[0]} failed: {first} (all of it: {errors})")
