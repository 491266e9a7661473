"""Writes a benchmark's figures, with the commit and the machine that they belong to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inferd.bench.machine import machine

RESULTS = Path(__file__).resolve().parent / "results"


def save(name: str, figures: dict[str, Any], code: Sequence[str]) -> Path:
    """Write `figures` to benchmarks/results/NAME.json and return its path.

    `code` are the folders, from the repository's root, whose code was measured.
    """
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": name,
        "commit": _commit(code),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **figures,
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return path


def _commit(code: Sequence[str]) -> str:
    """The checked-out commit, marked if the measured code differs from it; where there is none,
    as in a copy, what INFERD_COMMIT says."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", *code)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("INFERD_COMMIT", "unknown")
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=RESULTS.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
