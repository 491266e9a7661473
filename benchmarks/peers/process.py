"""A runner in a process group of its own, which is stopped while others are measured."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.peers.environments import ROOT


class RunnerFailed(Exception):
    """A runner ended, or did not answer in time; its log says why."""


class Runner:
    """One variant's process, from the start to `close`. Threads that would spin while it waits
    don't: all of its processes are stopped between commands.

    Raises: RunnerFailed, from every method that waits for a reply.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log, self._closed = log, False
        began = time.monotonic()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**_plain_environment(), **environment},
                start_new_session=True,
            )
        try:
            self.ready = self._reply(timeout=300.0)
        except RunnerFailed:
            self.close()
            raise
        self.started_s = time.monotonic() - began
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: Mapping[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """Wake it, have it do a command, and stop it again."""
        self._signal(signal.SIGCONT)
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended, or was closed
            raise RunnerFailed(self._why()) from None
        reply = self._reply(timeout)
        self._stop()
        return reply

    def memory(self) -> int:
        """Bytes of all its processes; pages that several share are counted once."""
        pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return sum(_proportional(pid) for pid in pids if _session(pid) == self._process.pid)

    def close(self) -> None:
        """End it: kindly, then not. Again is nothing."""
        if self._closed:
            return
        self._closed = True
        self._signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=20)  # closes its stdin
        self._signal(signal.SIGKILL)
        self._process.communicate()

    def _reply(self, timeout: float) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        line = _line(stdout, time.monotonic() + timeout)
        if line is None:
            raise RunnerFailed(self._why())
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _why(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)  # what it says of its end comes last
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return last[0] if last else "no answer"

    def _stop(self) -> None:
        """All of its processes; returns when the first one stands, or has ended."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended: who waits for its reply will see
            os.killpg(self._process.pid, number)


def _line(stream: IO[bytes], deadline: float) -> bytes | None:
    """The next line; None when the stream ends or the time is up.

    Replies come one at a time, so nothing waits unseen in the stream's buffer.
    """
    readable, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
    return (stream.readline() or None) if readable else None


def _plain_environment() -> dict[str, str]:
    """This process's, without what would change a peer's own choices."""
    foreign = ("OMP_", "KMP_", "GOMP_", "MKL_", "VLLM_", "GGML_", "LD_PRELOAD", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
