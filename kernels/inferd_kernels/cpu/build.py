"""Compiles the C++ kernels with the system's compiler, once for each source, flags and processor.

The library lies in a cache folder under a name that tells what it was made from, beside a digest
of its bytes: one that is cut short or changed is built again. Processes that start at once wait
for each other; a finished library appears by renaming.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from inferd_kernels.cpu.isa import Isa

SOURCES = Path(__file__).parent.parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TIMEOUT_S = 600.0


class BuildError(Exception):
    """There is no library, and why."""


def ensure(isa: Isa, cache: Path | None = None) -> Path:
    """The compiled library for these instructions; built where it is not cached.

    Raises BuildError: no compiler, a compiler's error, or a folder that cannot be written.
    """
    compiler = find_compiler()
    sources = sorted(SOURCES.rglob("*.cpp"))
    headers = sorted(SOURCES.rglob("*.h"))
    key = _key(compiler, isa, [*sources, *headers])
    folder = (cache or cache_folder()) / f"{isa.name}-{key[:16]}"
    library = folder / "libinferd_cpu.so"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not _intact(library):
                _build(compiler, isa, sources, library)
    except OSError as error:
        raise BuildError(f"{folder} cannot be used: {error}") from error
    return library


def find_compiler(environ: Mapping[str, str] = os.environ) -> str:
    """Path of the compiler: $CXX, or the first of the usual names. Raises BuildError."""
    named = environ.get("CXX", "")
    for name in (named,) if named else COMPILERS:
        if path := shutil.which(name):
            return path
    raise BuildError(f"there is no C++ compiler ({named or ', '.join(COMPILERS)})")


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """$XDG_CACHE_HOME/inferd/kernels, or below ~/.cache."""
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "inferd" / "kernels"


def _key(compiler: str, isa: Isa, files: list[Path]) -> str:
    digest = hashlib.sha256()
    version = _run([compiler, "--version"]).splitlines()[:1]
    for text in (compiler, *version, *FLAGS, *isa.flags):
        digest.update(text.encode() + b"\0")
    for file in files:
        digest.update(str(file.relative_to(SOURCES)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; let go of by the system when that one dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _intact(library: Path) -> bool:
    try:
        return _digest(library) == library.with_suffix(".sha256").read_text()
    except OSError:
        return False


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _build(compiler: str, isa: Isa, sources: list[Path], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as temporary:
        folder = Path(temporary)
        objects = [folder / f"{i}.o" for i in range(len(sources))]
        flags = [*FLAGS, *isa.flags, f"-I{SOURCES}"]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            commands = (
                [compiler, *flags, "-c", str(source), "-o", str(out)]
                for source, out in zip(sources, objects, strict=True)
            )
            list(pool.map(_run, commands))
        made = folder / library.name
        _run([compiler, "-shared", "-pthread", *map(str, objects), "-o", str(made)])
        library.with_suffix(".sha256").write_text(_digest(made))
        made.rename(library)


def _run(command: list[str]) -> str:
    """What a compiler says. Raises BuildError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise BuildError(f"{command[0]} failed with status {done.returncode}:\n{done.stderr}")
    return done.stdout
