"""How much memory a process takes, as the system counts it."""

from __future__ import annotations

from pathlib import Path

_OWN = ("Private_Dirty:", "Private_Hugetlb:")


def process_bytes(pid: int | None = None, proc: Path = Path("/proc")) -> int:
    """Bytes of main memory that a process (None: this one) alone holds, and that return with it.

    Unchanged pages of files are not among them, be they libraries' code or a mapped checkpoint:
    they are the system's cache, which it shares between processes and takes back at will. 0 where
    the system does not tell (anything but Linux; another user's process).

    Source: proc_pid_smaps(5).
    """
    try:
        text = (proc / str(pid or "self") / "smaps_rollup").read_text()
    except OSError:
        return 0
    fields = (line.split() for line in text.splitlines())
    return sum(int(field[1]) * 1024 for field in fields if field[0] in _OWN)
