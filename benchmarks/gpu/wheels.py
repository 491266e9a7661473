"""Packages that a GPU machine may lack and cannot download: carried as wheels."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = {"msgspec": "msgspec", "llguidance": "llguidance"}
"""Import → package: of what the engine needs beside torch, what images with torch do not bring."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17, 34, 31)]
PLATFORMS.append("manylinux2014_x86_64")
PYTHON = "3.12"


class Missing(Exception):
    """A package is neither installed nor in the folder of wheels."""


def fetch(folder: Path) -> int:
    """Download them for Python 3.12 on Linux; returns pip's exit status."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", "-d", str(folder)]
    for name in PLATFORMS:
        command += ["--platform", name]
    return subprocess.run([*command, *NEEDED.values()]).returncode


def install(folder: Path, target: Path) -> bool:
    """Unpack what is missing here into `target`. Returns whether anything was. Raises Missing."""
    lacking = [package for name, package in NEEDED.items() if find_spec(name) is None]
    if not lacking:
        return False
    found = [file for name in lacking for file in folder.glob(f"{name}-*.whl")]
    if len(found) < len(lacking):
        raise Missing(
            f"{', '.join(lacking)} are not installed for Python {platform.python_version()}, and "
            f"{folder} does not hold them: run `scripts/gpu_check --fetch-wheels` where there is a "
            "network"
        )
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(target), *map(str, found)], check=True)
    return True
