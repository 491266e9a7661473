"""A daemon in a process of its own, as tests see it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Daemon:
    """`inferd serve` in a child process.

    Attributes:
        out, err: lines of the two streams so far.
    """

    def __init__(self, *args: str, env: dict[str, str]) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("INFERD_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inferd", "serve", *args],
            env=clean | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterable[str], lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(ANSI.sub("", line.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def line(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """The first line of either stream that matches, as soon as it is there."""

        def found() -> re.Match[str] | None:
            matches = (re.search(pattern, line) for line in [*self.out, *self.err])
            return next((match for match in matches if match), None)

        def ended() -> bool:
            return not any(reader.is_alive() for reader in self._readers)

        with self._changed:
            self._changed.wait_for(lambda: found() or ended(), timeout)
            match = found()
        assert match, f"no line matches {pattern!r} in:\n" + "\n".join(self.out + self.err)
        return match

    @property
    def url(self) -> str:
        """The base URL, once ready."""
        return self.line(r"ready on (http://\S+)")[1]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 30) -> int:
        """The exit status, after both streams were read to their ends."""
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    @property
    def children(self) -> list[int]:
        """Process ids of the models' processes."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


Start = Callable[..., Daemon]
"""Launches a daemon; see the fixture `launch`."""
