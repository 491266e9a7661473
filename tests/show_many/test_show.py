"""The show in a small form: two models and six adapters in memory for one and a half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_stale() -> None:
    command = [sys.executable, "-m", "benchmarks.show_many", "--seconds", "12", "--clients", "6"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 lost, 0 stale" in ended.stdout
