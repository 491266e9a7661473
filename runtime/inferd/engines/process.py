"""One child process that holds a core: launch it, hear its pulse and its stderr, end it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
import zmq

from inferd.engines.base import EngineSpec
from inferd.engines.wire import (
    Begin,
    Command,
    Hello,
    HostChannel,
    Message,
    Pulse,
    Stop,
    decode_messages,
)
from inferd.errors import StartError

_log = logging.getLogger("inferd.engine")

_KEPT_LINES = 40  # of stderr, for diagnosis
_SPINS = "10000"  # some 30 µs
_MAX_PATH = 100  # bytes of a Unix socket's path (sockaddr_un holds 108, macOS 104)


@dataclass(frozen=True)
class Limits:
    """How patient the daemon is with a child; seconds, and counts of deaths."""

    pulse_s: float = 1.0  # between the child's signs of life
    silence_s: float = 60.0  # no sign of life for so long: dead
    stuck_s: float = 600.0  # one turn of its loop lasts so long: dead
    start_s: float = 900.0  # no progress for so long while starting: dead
    stop_s: float = 10.0  # from asking it to stop until it is killed
    stats_s: float = 1.0  # waiting for fresh statistics
    backoff_s: float = 0.5  # before the first restart; doubles with each
    backoff_max_s: float = 30.0
    quick_s: float = 60.0  # a death so soon after becoming ready counts as one in a row
    max_quick: int = 5  # so many restarts in a row before giving up


@dataclass(frozen=True)
class Ending:
    """How a child ended: in words, and with its last lines of stderr."""

    reason: str
    log: str


class ChildProcess:
    """A running child. `ended` completes once it is gone and everything of it is cleaned up."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: HostChannel,
        directory: str,
        limits: Limits,
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._directory = directory
        self._limits = limits
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._verdict = ""  # why we killed it
        self._turns = 0
        # Seconds by our own ticks, so that a stall of ours is not its death.
        self._silent: float | None = None  # None: never heard yet; its interpreter starts
        self._stuck = 0.0
        self.watch_turns = False  # set once ready: loading is one long turn
        self.ended = asyncio.create_task(self._live(), name=f"engine-{self.pid}")

    @classmethod
    async def launch(
        cls,
        spec: EngineSpec,
        python: str,
        limits: Limits,
        on_messages: Callable[[list[Message]], None],
    ) -> ChildProcess:
        """Start the process. Raises `StartError` where even that fails."""
        try:
            return await cls._spawn(spec, python, limits, on_messages)
        except (OSError, zmq.ZMQError) as error:
            raise StartError("crashed", f"The process could not start: {error}") from error

    @classmethod
    async def _spawn(
        cls,
        spec: EngineSpec,
        python: str,
        limits: Limits,
        on_messages: Callable[[list[Message]], None],
    ) -> ChildProcess:
        children: list[ChildProcess] = []

        def on_frame(frame: bytes) -> None:
            try:
                messages = decode_messages(frame)
            except msgspec.DecodeError as error:
                children[0].kill(f"sent what cannot be decoded: {error}")
                return
            if Hello() in messages[:1]:
                shutil.rmtree(directory, ignore_errors=True)  # the connection stays
            on_messages(messages)

        with ExitStack() as undo:
            directory = _private_directory()
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            endpoint = f"ipc://{directory}/engine"
            channel = HostChannel(endpoint, on_frame)
            undo.callback(channel.close)
            process = await asyncio.create_subprocess_exec(
                python,
                *("-P", "-X", "faulthandler", "-m", "inferd.engines.child"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=child_environment(os.environ),
                start_new_session=True,
            )
            children.append(cls(process, channel, directory, limits))
            undo.pop_all()  # from here on it cleans up after itself
        assert process.stdin is not None
        begin = Begin(spec, endpoint, os.getpid(), limits.pulse_s)
        process.stdin.write(msgspec.json.encode(begin) + b"\n")
        return children[0]

    def send(self, command: Command) -> None:
        self._channel.send(command)

    def kill(self, verdict: str) -> None:
        """End it now, with whatever it started; `verdict` completes "the process …"."""
        if self.ended.done():
            return
        self._verdict = self._verdict or verdict
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    async def stop(self) -> Ending:
        """Ask it to stop; kill it when it does not. Returns once it is gone."""
        self.send(Stop())
        await asyncio.wait({self.ended}, timeout=self._limits.stop_s)
        self.kill("did not stop when asked")
        return await self.ended

    async def _live(self) -> Ending:
        tasks = [
            asyncio.create_task(self._read_stderr()),
            asyncio.create_task(self._read_pulses()),
            asyncio.create_task(self._watch()),
        ]
        try:
            status = await self._process.wait()
            await asyncio.wait(tasks[:1], timeout=1.0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._channel.close()
            shutil.rmtree(self._directory, ignore_errors=True)
        return Ending(self._verdict or _in_words(status), "\n".join(self._lines))

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr):
            self._lines.append(line)
            level, _, text = line.partition(" ")
            number = logging.getLevelNamesMapping().get(level)
            if number is None:
                _log.info("[%d] %s", self.pid, line)
            else:
                _log.log(number, "[%d] %s", self.pid, text)

    async def _read_pulses(self) -> None:
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Pulse).decode
        async for line in _lines(self._process.stdout):
            pulse = decode(line)
            self._silent = 0.0
            if pulse.turns != self._turns or not pulse.working:
                self._turns, self._stuck = pulse.turns, 0.0
        self.kill("")  # its end is the process's; what it started must not keep pipes open

    async def _watch(self) -> None:
        limits = self._limits
        while True:
            await asyncio.sleep(limits.pulse_s)
            if self._silent is None:
                continue
            self._silent += limits.pulse_s
            self._stuck = self._stuck + limits.pulse_s if self.watch_turns else 0.0
            if self._silent > limits.silence_s:
                self.kill(f"gave no sign of life for {limits.silence_s:g} s")
            elif self._stuck > limits.stuck_s:
                self.kill(f"was stuck in one step for {limits.stuck_s:g} s")


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """`ours`, with GPUs numbered as the driver does (see `gpus`), and OpenMP's threads told to
    sleep soon when they wait for each other.

    libgomp lets them spin for 300 000 rounds. Where another process wants a core too, they then
    spin their time slice away while the thread that they wait for has none.
    """
    numbered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **ours}
    return numbered if "OMP_WAIT_POLICY" in ours else {"GOMP_SPINCOUNT": _SPINS, **numbered}


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length but blank ones; a progress bar's carriage return ends a line too."""
    rest = b""
    while chunk := await reader.read(1 << 16):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.strip():
                yield line.decode(errors="replace")
    if rest.strip():
        yield rest.decode(errors="replace")


def _in_words(status: int) -> str:
    """How a process with this exit status ended; completes "the process …"."""
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    if name == "SIGKILL":
        return "was killed by SIGKILL (as the kernel does when memory runs out)"
    return f"was killed by {name}"


def _private_directory() -> str:
    """A fresh 0700 directory whose path is short enough for a Unix socket."""
    directory = tempfile.mkdtemp(prefix="inferd-")
    if len(os.fsencode(directory)) <= _MAX_PATH - len("/engine"):
        return directory
    os.rmdir(directory)
    return tempfile.mkdtemp(prefix="inferd-", dir="/tmp")
