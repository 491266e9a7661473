"""A daemon in a process of its own, and what its models' processes take of the machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_READY = re.compile(r"ready on (http://\S+)")


class Daemon:
    """`inferd serve` on a free port, with its log in `log`; a context manager."""

    def __init__(self, log: Path, *options: str) -> None:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("INFERD_")
        }
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inferd", "serve", "--port", "0", *options],
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.url = self._wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def private_bytes(self) -> dict[int, int]:
        """By process id, what the models' processes have to themselves."""
        found = ((pid, _private(pid)) for pid in _children(self._process.pid))
        return {pid: size for pid, size in found if size}

    def _wait(self) -> str:
        """The URL, once it is ready."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if ready := _READY.search(line):
                return ready[1]
        self._process.wait()
        raise SystemExit(f"the daemon did not start:\n{self._log.read_text()}")


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
