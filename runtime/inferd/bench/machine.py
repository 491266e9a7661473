"""What a result belongs to: the machine, the versions, the commit, the date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Variables that change how fast things are, and how memory is had.
_SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "LD_PRELOAD",
    "INFERD_CPU_ISA",
)


def environment() -> dict[str, Any]:
    """Everything about where and with what a result was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "inferd": version("inferd"),
        "commit": _commit(),
        "torch": version("torch"),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The machine as this process sees it now."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
    }


def _cpu_model() -> str:
    """As the kernel names it; /proc exists on Linux only."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """Of the checkout that this code runs from, marked if it differs; None for an installed one."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return f"{commit}+changes" if _git(folder, "status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
