"""A child process that dies asleep, or while it holds adapters."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inferd.engines.host import HostEngine
from inferd.errors import EngineDead, EngineError, StartError, Unavailable
from inferd.messages import Event, Fail, LoadAdapter, MemoryUse, Submit, Tokens
from tests.engines.hosts_under_test import (
    GREEDY,
    Start,
    collect,
    eventually,
    gone,
    starter,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starter() as start:
        yield start


@pytest.fixture
def adapter(tmp_path: Path) -> LoadAdapter:
    """It says 4, 5."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "echo": [4, 5]}))
    return LoadAdapter("one", str(tmp_path))


def kill(engine: HostEngine) -> int:
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def said(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Tokens) for token in event.token_ids]


async def says(engine: HostEngine, adapter: str = "") -> list[int]:
    return said(await collect(engine, Submit("a", (1, 2, 3), 3, GREEDY, adapter=adapter)))


async def test_a_child_that_dies_asleep_is_replaced_when_it_has_to_wake(
    start: Start, adapter: LoadAdapter
) -> None:
    engine = await start("load_bytes=4000")
    await engine.load_adapter(adapter)
    assert (await engine.sleep(1)).weights == 4000
    first = kill(engine)
    await eventually(lambda: engine.pid is None)
    assert engine.state == "asleep"
    assert await engine.sleep(1) == MemoryUse()
    assert (await engine.wake()).weights == 4000
    assert engine.pid != first
    assert await says(engine, "one") == [4, 5, 4]


async def test_one_that_dies_as_it_wakes_is_replaced_at_once(start: Start) -> None:
    engine = await start("wake=crash")
    await engine.sleep(1)
    first = engine.pid
    await engine.wake()
    assert engine.pid != first
    assert await says(engine) == [1, 2, 3]


async def test_a_deep_sleeper_has_no_process(start: Start) -> None:
    engine = await start()
    pid = engine.pid
    assert pid is not None
    await engine.sleep(2)
    assert gone(pid)
    assert engine.pid is None
    await engine.wake()
    kill(engine)
    await until(engine, "restarting")  # it is watched again
    await until(engine, "ready")


async def test_a_new_child_knows_the_adapters_before_any_request(
    start: Start, adapter: LoadAdapter
) -> None:
    engine = await start("adapter_delay=0.02")
    await engine.load_adapter(adapter)
    kill(engine)
    await until(engine, "restarting")
    with pytest.raises(Unavailable):
        await engine.load_adapter(adapter)
    await until(engine, "ready")
    assert await says(engine, "one") == [4, 5, 4]
    await engine.drop_adapter("one")
    assert isinstance(
        (await collect(engine, Submit("b", (1,), 3, GREEDY, adapter="one")))[-1], Fail
    )


async def test_an_adapter_dropped_while_it_restarts_is_not_told(
    start: Start, adapter: LoadAdapter
) -> None:
    engine = await start()
    await engine.load_adapter(adapter)
    kill(engine)
    await until(engine, "restarting")
    await engine.drop_adapter("one")
    await until(engine, "ready")
    assert (await engine.stats()).adapters_held == 0


async def test_an_adapter_that_no_longer_loads_is_lost_alone(
    start: Start, adapter: LoadAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await start()
    await engine.load_adapter(adapter)
    (Path(adapter.folder) / "adapter_config.json").unlink()
    kill(engine)
    await until(engine, "restarting")
    await until(engine, "ready")
    assert await says(engine, "one") == []
    assert await says(engine) == [1, 2, 3]
    assert "adapter one was lost" in caplog.text


async def test_a_load_and_a_drop_end_with_the_child(start: Start, adapter: LoadAdapter) -> None:
    engine = await start("adapter_delay=3600,delay=0.005")
    load = asyncio.create_task(engine.load_adapter(adapter))
    async with engine.stream(Submit("a", (1,), 1000, GREEDY)) as events:
        await anext(events)
        kill(engine)
        with pytest.raises(EngineDead):
            await load
    await until(engine, "ready")
    assert (await engine.stats()).adapters_held == 0


async def test_who_gives_up_waking_leaves_it_awake(start: Start) -> None:
    engine = await start("wake_delay=0.2")
    await engine.sleep(1)
    wake = asyncio.create_task(engine.wake())
    await asyncio.sleep(0.01)
    wake.cancel()
    await asyncio.wait({wake})
    assert await says(engine) == [1, 2, 3]
    await engine.sleep(1)
    await engine.wake()


async def test_who_gives_up_waking_from_a_deep_sleep_leaves_it_asleep(start: Start) -> None:
    engine = await start("load_bytes=4,load_delay=0.2")
    await engine.sleep(2)
    wake = asyncio.create_task(engine.wake())
    await eventually(lambda: engine.pid is not None)
    pid = engine.pid
    assert pid is not None
    wake.cancel()
    await asyncio.wait({wake})
    assert gone(pid)
    assert engine.state == "asleep"
    await engine.wake()
    assert await says(engine) == [1, 2, 3]


async def test_who_gives_up_sleeping_can_wake_it(start: Start) -> None:
    engine = await start("sleep_delay=0.1")
    sleep = asyncio.create_task(engine.sleep(1))
    await asyncio.sleep(0.01)
    sleep.cancel()
    await asyncio.wait({sleep})
    await engine.wake()
    assert await says(engine) == [1, 2, 3]


async def test_closing_while_it_wakes(start: Start) -> None:
    for options in ("wake_delay=0.2", "load_bytes=4,load_delay=0.2"):
        engine = await start(options)
        await engine.sleep(1 if "wake" in options else 2)
        wake = asyncio.create_task(engine.wake())
        await asyncio.sleep(0.01)
        await engine.close()
        with pytest.raises(StartError):
            await wake
        assert engine.state == "closed"
        assert engine.pid is None or gone(engine.pid)


async def test_what_restarts_cannot_sleep(start: Start) -> None:
    engine = await start()
    kill(engine)
    await until(engine, "restarting")
    with pytest.raises(EngineError, match="restarting"):
        await engine.sleep(1)
    with pytest.raises(StartError, match="restarting"):
        await engine.wake()
    await until(engine, "ready")
