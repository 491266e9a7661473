"""The parts of the check one after the other, each in a process of its own with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

LIMITS_S = {
    "ceilings": 20,
    "llama": 105,
    "theirs": 55,
    "numbers": 65,
    "tests": 100,
    "deterministic": 50,
    "qwen": 35,
    "eager": 35,
    "linears": 20,
    "kernels": 50,
}
"""Part → the most seconds that it may take, in the order in which they run: where the time is not
enough for all, what matters most is known."""
BUDGET_S = 465
"""For all of them together: the check fits in eight minutes."""
LEAST_S = 10
"""With less left, a part is not begun."""
REHEARSAL_S = 90
"""For each part of a rehearsal."""


@dataclass
class Outcome:
    """What became of a part."""

    status: str  # ok, failed, timeout, skipped
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def run(
    name: str, folder: Path, environ: Mapping[str, str], limit_s: float, *, rehearse: bool
) -> Outcome:
    """Run a part. What it had found when its time was up is kept."""
    report = folder / f"{name}.json"
    command = [sys.executable, "-m", "benchmarks.gpu.part", name, str(report)]
    command += ["--rehearse"] if rehearse else []
    began = monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=dict(environ), start_new_session=True) as process:
        try:
            status = "failed" if process.wait(limit_s) else "ok"
        except subprocess.TimeoutExpired:
            status = "timeout"
        finally:
            _end(process)
    found = json.loads(report.read_text()) if report.exists() else {}
    outcome = Outcome(
        status, monotonic() - began, found.get("figures", {}), found.get("failures", {})
    )
    if status == "timeout":
        outcome.failures["time"] = f"not done after {limit_s:.0f} s"
    elif status == "failed" and not outcome.failures:
        outcome.failures["process"] = f"ended with {process.returncode}"
    return outcome


def _end(process: subprocess.Popen[bytes]) -> None:
    """The part's whole session, so that nothing of it runs beside the next one."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
