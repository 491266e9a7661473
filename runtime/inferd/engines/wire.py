"""What crosses the border of an engine's process, and how: msgpack frames over ZeroMQ.

Each frame is a list of messages, decoded straight into their types. One PAIR socket per child,
on a Unix socket in a directory that only this user may enter. No frame is ever dropped: the
daemon queues without limit (admission bounds what it sends), the child waits for room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import zmq
from msgspec import Struct

from inferd.engines.base import EngineSpec, Progress
from inferd.errors import StartError
from inferd.messages import (
    Abort,
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Awake,
    DropAdapter,
    EngineInfo,
    EngineStats,
    Fail,
    Finish,
    LoadAdapter,
    PromptScored,
    Sleep,
    Slept,
    Submit,
    Tokens,
    Wake,
)


class Begin(Struct, frozen=True):
    """The child's first line of stdin, as JSON. The pipe then stays open: its end is ours."""

    spec: EngineSpec
    endpoint: str  # ipc://…
    parent: int  # process id
    pulse_s: float  # seconds between pulses


class Pulse(Struct, frozen=True, array_like=True):
    """A line on the child's stdout, as JSON, from a thread of its own: it lives, and its loop
    has turned `turns` times. `working`: a turn is under way, so `turns` ought to rise."""

    turns: int
    working: bool


class GetStats(Struct, frozen=True, tag="get_stats"):
    """Answered by `EngineStats`, in order."""


class Stop(Struct, frozen=True, tag="stop"):
    """End the process."""


class Hello(Struct, frozen=True, tag="hello"):
    """The child is connected; the socket's path is needed no more."""


class StartFailed(Struct, frozen=True, tag="start_failed", omit_defaults=True):
    """A `StartError`, as a message. The process ends after it."""

    code: str
    message: str
    hint: str = ""
    bytes_needed: int | None = None
    bytes_free: int | None = None
    log: str = ""

    @classmethod
    def of(cls, error: StartError) -> StartFailed:
        log = str(error) if str(error) != error.message else ""
        code = error.code or "crashed"
        return cls(code, error.message, error.hint, error.bytes_needed, error.bytes_free, log)

    def error(self) -> StartError:
        return StartError(
            self.code,
            self.message,
            hint=self.hint,
            bytes_needed=self.bytes_needed,
            bytes_free=self.bytes_free,
            log=self.log,
        )


Command = Submit | Abort | GetStats | LoadAdapter | DropAdapter | Sleep | Wake | Stop
Message = (
    Hello
    | Progress
    | StartFailed
    | EngineInfo
    | EngineStats
    | AdapterInfo
    | AdapterFailed
    | AdapterDropped
    | Slept
    | Awake
    | Tokens
    | PromptScored
    | Finish
    | Fail
)

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(list[Command])
_messages = msgspec.msgpack.Decoder(list[Message])


def encode(frame: Sequence[Command] | Sequence[Message]) -> bytes:
    return _encoder.encode(frame)


def decode_commands(frame: bytes) -> list[Command]:
    """Raises `msgspec.DecodeError` on anything but a list of commands."""
    return _commands.decode(frame)


def decode_messages(frame: bytes) -> list[Message]:
    """Raises `msgspec.DecodeError` on anything but a list of messages."""
    return _messages.decode(frame)


class HostChannel:
    """The daemon's end, driven by the event loop; never blocks, and keeps order.

    What is sent within one turn of the event loop goes out as one frame.
    """

    def __init__(self, endpoint: str, on_frame: Callable[[bytes], None]) -> None:
        self._on_frame = on_frame
        self._outbox: list[Command] = []
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.set_hwm(0)  # unlimited: a full queue must not lose a Submit
        self._socket.linger = 0
        self._socket.bind(endpoint)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._readable)

    def send(self, command: Command) -> None:
        if self._socket.closed:
            return
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(command)

    def close(self) -> None:
        """What was sent and is still queued is lost; idempotent."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._fd)
        self._socket.close()
        self._context.term()

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self._socket.closed:
            return
        try:
            self._socket.send(encode(outbox), zmq.NOBLOCK)
        except zmq.Again:
            pass  # no peer: it is dead or was never born, and its end fails every stream
        self._readable()  # sending may swallow the descriptor's edge (zmq_getsockopt, ZMQ_FD)

    def _readable(self) -> None:
        # The descriptor is edge-triggered: take all frames there are.
        while not self._socket.closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_frame(frame)


class ChildChannel:
    """The child's end; blocks. A full queue makes `send` wait until the daemon reads."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.linger = 2000  # ms, so that the last events still go out
        self._socket.connect(endpoint)

    def send(self, messages: list[Message]) -> None:
        self._socket.send(encode(messages))

    def receive(self, wait: float | None) -> list[Command]:
        """All commands that wait; where there is none, those that come within `wait` seconds
        (None: for ever)."""
        commands: list[Command] = []
        if wait != 0:
            self._socket.poll(None if wait is None else int(wait * 1000))
        while True:
            try:
                commands += decode_commands(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return commands

    def close(self) -> None:
        self._socket.close()
        self._context.term()
