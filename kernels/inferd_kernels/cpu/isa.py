"""Which instructions this machine's processor has, and what the compiler must be told."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Isa:
    """A level of instructions. `needs` are the names of /proc/cpuinfo."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str] = frozenset()


_AVX2 = frozenset({"avx2", "fma", "f16c", "bmi2"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_WIDE = ("-march=x86-64-v4", "-mprefer-vector-width=512")

LEVELS: Mapping[str, tuple[Isa, ...]] = {
    "x86_64": (
        Isa(
            "avx512bf16",
            (*_WIDE, "-mavx512vnni", "-mavx512bf16"),
            _AVX512 | {"avx512_vnni", "avx512_bf16"},
        ),
        Isa("avx512vnni", (*_WIDE, "-mavx512vnni"), _AVX512 | {"avx512_vnni"}),
        Isa("avx512", _WIDE, _AVX512),
        Isa("avx2", ("-march=x86-64-v3",), _AVX2),
    ),
    "aarch64": (Isa("neon", ()),),
}
"""Machine → levels, best first. What is no level here runs the reference."""


def supported(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = "") -> tuple[Isa, ...]:
    """The levels that this processor has, best first."""
    levels = LEVELS.get(machine or platform.machine(), ())
    features = _features(cpuinfo)
    return tuple(level for level in levels if level.needs <= features)


def choose(environ: Mapping[str, str] = os.environ) -> Isa | None:
    """The best level, or the one that INFERD_CPU_ISA names. None: there are no kernels for it.

    Raises ValueError where the processor lacks what INFERD_CPU_ISA names.
    """
    if asked := environ.get("INFERD_CPU_ISA", ""):
        try:
            return named(asked)
        except ValueError as error:
            raise ValueError(f"INFERD_CPU_ISA: {error}") from None
    return next(iter(supported()), None)


def named(name: str) -> Isa:
    """Raises ValueError where this processor has no such level."""
    levels = supported()
    for level in levels:
        if level.name == name:
            return level
    known = ", ".join(level.name for level in levels) or "none"
    raise ValueError(f"there is no level {name!r}; this processor has {known}")


def _features(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
