"""A daemon started for a benchmark: its URL, when it said what, what it takes of the processor."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Self

from inferd.bench.errors import BenchError

_READY = re.compile(r"ready on (http://\S+)")
_STOP_S = 30.0
_CPUCLOCK_SCHED = 2  # linux/posix-timers.h


class DaemonProcess:
    """`inferd serve` on a free port of this machine; a context manager. Entering it waits for
    nothing: `wait_ready` does.

    Attributes:
        began: when it was started, by `clock`.
        lines: what it wrote, with the time of each line.
    """

    def __init__(
        self, options: Sequence[str], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self.lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        where = ("--host", "127.0.0.1", "--port", "0")
        command = [sys.executable, "-m", "inferd", "serve", *where, *options]
        self.began = clock()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()

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
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(_STOP_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout: float) -> tuple[float, str]:
        """When it became ready, and its URL. Raises `BenchError`."""

        def found() -> tuple[float, str] | None:
            matches = ((at, _READY.search(line)) for at, line in self.lines)
            return next(((at, match[1]) for at, match in matches if match), None)

        def ended() -> bool:
            return not any(reader.is_alive() for reader in self._readers)

        with self._changed:
            self._changed.wait_for(lambda: found() or ended(), timeout)
        ready = found()
        if ready is None:
            said = "\n".join(line for _, line in self.lines[-20:])
            raise BenchError(f"the daemon did not become ready:\n{said}")
        return ready

    def cpu_seconds(self) -> float:
        """Processor time that the daemon itself has taken, its model's process apart."""
        return cpu_seconds(self.pid)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self.lines.append((self._clock(), line.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, of the user's and the system's kind.

    Linux: the clock is the one that clock_getcpuclockid(3) names. Raises OSError when it is gone.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
