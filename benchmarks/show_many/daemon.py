"""What a daemon's models' processes take of the machine."""

from __future__ import annotations

import re
from pathlib import Path


def private_bytes(daemon: int) -> dict[int, int]:
    """By process id, what the models' processes have to themselves.

    Args:
        daemon: its process id.
    """
    found = ((pid, _private(pid)) for pid in _children(daemon))
    return {pid: size for pid, size in found if size}


def _children(parent: int) -> list[int]:
    task = Path(f"/proc/{parent}/task")
    texts = [(thread / "children").read_text() for thread in task.iterdir()]
    return [int(pid) for text in texts for pid in text.split()]


def _private(pid: int) -> int:
    """Private resident bytes; 0 for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * sum(map(int, re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)))
