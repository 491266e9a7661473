"""How busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.peers.quiet import busy_cores


def test_cores_in_use_are_the_share_of_ticks_that_were_not_idle(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 10 0 10 100 0 0 0 0 0 0\ncpu0 …\n")

    def pass_time(seconds: float) -> None:
        assert seconds == 2.0
        stat.write_text("cpu 20 5 15 150 10 0 5 5 0 0\ncpu0 …\n")  # 30 of 90 ticks were busy

    cores = os.cpu_count() or 1
    assert busy_cores(2.0, stat, pass_time) == pytest.approx(cores / 3, abs=1e-3)
