"""Frames keep their types and their order, and none is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from inferd.engines import wire
from inferd.engines.base import EngineSpec, Progress
from inferd.engines.echo import create
from inferd.engines.wire import (
    ChildChannel,
    Command,
    GetStats,
    Hello,
    HostChannel,
    Message,
    StartFailed,
    Stop,
    decode_commands,
    decode_messages,
    encode,
)
from inferd.errors import StartError
from inferd.messages import (
    Abort,
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Awake,
    Begun,
    DropAdapter,
    EngineStats,
    Fail,
    Finish,
    LoadAdapter,
    Logprob,
    MemoryUse,
    PromptScored,
    Sampling,
    Sleep,
    Slept,
    Submit,
    Tokens,
    Wake,
)

SCORED = (Logprob(3, -0.5, 1, ((3, -0.5), (4, -1.5))), Logprob(5, -9.0, 70))


def test_commands_come_back_as_they_went() -> None:
    sampling = Sampling(
        temperature=0.7,
        seed=2**64 - 1,
        logit_bias=((3, -100.0),),
        stop_token_ids=(1, 2),
        logprobs=0,
        logprobs_mode="processed",
    )
    frame: list[Command] = [
        Submit("a", (1, 2, 3), 4, sampling, output=(9,), caller="é", priority=-1, cache_salt="s"),
        Submit("b", (1,), 1, Sampling()),
        Submit("c", (1,), 1, Sampling(), adapter="0123"),
        Abort("a"),
        GetStats(),
        LoadAdapter("0123", "/folder"),
        DropAdapter("0123"),
        Sleep(),
        Wake(),
        Stop(),
    ]
    assert decode_commands(encode(frame)) == frame


def test_messages_come_back_as_they_went() -> None:
    info = create(EngineSpec(engine="echo"), lambda progress: None).info
    frame: list[Message] = [
        Hello(),
        Progress("weights", 1, 2**40),
        StartFailed("out_of_memory", "no", "less", 2, 1, "log"),
        info,
        EngineStats(running=3, memory=MemoryUse(weights=2**40), adapters_held=2),
        AdapterInfo("0123", 8, 2**20, ("q_proj", "lm_head")),
        AdapterFailed("0123", "unsupported", "no", "log"),
        AdapterDropped("0123"),
        Slept(MemoryUse(weights=1)),
        Awake(MemoryUse(1, 2, 3, 4, 5, 6)),
        PromptScored("a", SCORED),
        Tokens("a", (3, 5), SCORED),
        Tokens("b", (0,)),
        Tokens("c", (1,), (), Begun(0.1, 0.2, 3)),
        Finish("a", "stop", 5, 0.3, 1),
        Fail("b", "capacity", "full", "log"),
    ]
    assert decode_messages(encode(frame)) == frame


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([{"type": "no such"}]),
        msgspec.msgpack.encode([{"type": "tokens", "request_id": 1, "token_ids": [1]}]),
        encode([Submit("a", (1,), 1, Sampling())])[:-1],
    ],
)
def test_anything_else_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_messages(frame)
    with pytest.raises(msgspec.DecodeError):
        decode_commands(frame)


def test_a_start_error_crosses_whole() -> None:
    error = StartError("unsupported", "no", hint="yes", bytes_needed=2, bytes_free=1, log="why")
    there = StartFailed.of(error).error()
    assert (there.code, there.message, there.hint) == ("unsupported", "no", "yes")
    assert (there.bytes_needed, there.bytes_free, str(there)) == (2, 1, "why")
    assert str(StartFailed.of(StartError("unsupported", "no")).error()) == "no"


class Pair:
    """Both ends of a connection; the child's answers on a thread, as in its process."""

    def __init__(self, endpoint: str) -> None:
        self.arrived: list[Message] = []
        self.changed = asyncio.Event()
        self.host = HostChannel(endpoint, self._on_frame)
        self.child = ChildChannel(endpoint)
        self.frames = 0

    def _on_frame(self, frame: bytes) -> None:
        self.frames += 1
        self.arrived += decode_messages(frame)
        self.changed.set()

    async def until(self, count: int) -> list[Message]:
        """The messages, once there are `count` of them."""
        with anyio.fail_after(30):
            while len(self.arrived) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.arrived


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(f"ipc://{tmp_path}/s")
    pair.child.send([Hello()])
    await pair.until(1)
    yield pair
    pair.child.close()
    pair.host.close()


@pytest.mark.anyio
async def test_a_stalled_daemon_loses_nothing(pair: Pair) -> None:
    """The child sends far beyond any high-water mark while the event loop stands still."""
    count = 20_000

    def send() -> None:
        for i in range(count):
            pair.child.send([Tokens("a", (i,))])

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(0.3)  # the event loop does not turn meanwhile
    arrived = await pair.until(1 + count)
    sender.join()
    assert arrived[1:] == [Tokens("a", (i,)) for i in range(count)]


@pytest.mark.anyio
async def test_a_child_that_does_not_read_loses_nothing(pair: Pair) -> None:
    count = 5_000
    for i in range(count):
        pair.host.send(Abort(str(i)))
        if i % 2:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    got: list[Command] = []
    while len(got) < count:
        got += await asyncio.to_thread(pair.child.receive, None)
    assert got == [Abort(str(i)) for i in range(count)]


@pytest.mark.anyio
async def test_what_is_sent_in_one_turn_is_one_frame(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counting(frame: bytes) -> list[Command]:
        sizes.append(len(decode_commands(frame)))
        return decode_commands(frame)

    monkeypatch.setattr(wire, "decode_commands", counting)
    for i in range(10):
        pair.host.send(Abort(str(i)))
    await asyncio.to_thread(pair.child.receive, None)
    assert sizes == [10]


@pytest.mark.anyio
async def test_sending_to_nobody_is_no_error(tmp_path: Path) -> None:
    channel = HostChannel(f"ipc://{tmp_path}/s", lambda frame: None)
    channel.send(Stop())
    await asyncio.sleep(0)
    channel.close()
    channel.send(Stop())
    channel.close()
