"""How busy the machine is with other things, before something is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

QUIET = 0.1  # cores


def busy_cores(
    seconds: float = 1.0,
    stat: Path = Path("/proc/stat"),
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Cores in use during the next `seconds`; stolen ones, by a hypervisor, are in use too."""
    idle, total = _ticks(stat)
    sleep(seconds)
    idle_after, total_after = _ticks(stat)
    passed = total_after - total
    share = 1 - (idle_after - idle) / passed if passed else 0.0
    return round(share * (os.cpu_count() or 1), 3)


def _ticks(stat: Path) -> tuple[int, int]:
    """Idle and all, of the first line: user nice system idle iowait irq softirq steal (proc(5))."""
    fields = [int(each) for each in stat.read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
