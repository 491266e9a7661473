"""A child process that dies, hangs, talks and is left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from inferd.engines.base import EngineSpec, Progress
from inferd.engines.host import HostEngine
from inferd.engines.process import Limits, child_environment
from inferd.engines.wire import Message
from inferd.errors import StartError, Unavailable
from inferd.messages import EngineInfo, Event, Fail, Finish, Submit, Tokens
from tests.engines.hosts_under_test import (
    EAGER,
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
    """Starts an echo engine with the given options in a child."""
    async with starter() as start:
        yield start


async def test_a_killed_child_fails_its_streams_and_is_replaced(start: Start) -> None:
    engine = await start("delay=0.005")
    first = engine.pid
    assert first is not None
    async with engine.stream(Submit("a", (1, 2, 3), 1000, GREEDY)) as events:
        assert isinstance(await anext(events), Tokens)
        os.kill(first, signal.SIGKILL)
        last = [event async for event in events][-1]
    assert isinstance(last, Fail)
    assert last.code == "dead"
    assert last.message.endswith("; it is restarting")
    assert "SIGKILL" in last.log
    with pytest.raises(Unavailable) as caught:
        await collect(engine, Submit("b", (1, 2, 3), 3, GREEDY))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 1.0
    assert engine.info.engine == "echo"
    await until(engine, "ready")
    assert engine.pid != first
    assert len(await collect(engine, Submit("c", (1, 2, 3), 3, GREEDY))) == 4


@pytest.mark.parametrize("fault", ["crash_token=7", "raise_token=7"])
async def test_a_fault_in_a_step_ends_the_child_alone(start: Start, fault: str) -> None:
    engine = await start(fault)
    [last] = await collect(engine, Submit("bad", (7, 1), 5, GREEDY))
    assert isinstance(last, Fail)
    assert last.code == "dead"
    await until(engine, "ready")
    assert isinstance((await collect(engine, Submit("good", (1, 2), 5, GREEDY)))[-1], Finish)
    assert engine.reason is not None
    if fault.startswith("raise"):
        assert "raise_token asks" in str(engine.reason)


async def test_a_request_that_fails_alone_leaves_the_child_running(start: Start) -> None:
    engine = await start("fail_token=7")
    pid = engine.pid
    [last] = await collect(engine, Submit("bad", (7, 1), 5, GREEDY))
    assert isinstance(last, Fail)
    assert (last.code, last.log) == ("engine", "fail_token")
    assert isinstance((await collect(engine, Submit("good", (1, 2), 5, GREEDY)))[-1], Finish)
    assert engine.pid == pid


async def test_a_crash_loop_ends_in_failed(start: Start) -> None:
    limits = Limits(pulse_s=0.05, backoff_s=0.01, max_quick=2)
    engine = await start("crash_token=7", limits=limits)
    told: list[bool] = []
    for _ in range(3):
        await until(engine, "ready")
        [end] = await collect(engine, Submit("bad", (7, 1), 5, GREEDY))
        assert isinstance(end, Fail)
        told.append("restarting" in end.message)
    assert told == [True, True, False]
    await until(engine, "failed")
    assert engine.pid is None
    assert engine.reason is not None
    assert "SIGKILL" in engine.reason.message
    with pytest.raises(Unavailable, match="SIGKILL"):
        await collect(engine, Submit("late", (1, 2), 5, GREEDY))
    assert (await engine.stats()).running == 0


async def test_a_stuck_step_is_a_death(start: Start) -> None:
    limits = Limits(pulse_s=0.05, stuck_s=0.5, backoff_s=0.01)
    engine = await start("hang_token=7", limits=limits)
    [last] = await collect(engine, Submit("bad", (7, 1), 5, GREEDY))
    assert isinstance(last, Fail)
    assert "stuck in one step" in last.log
    await until(engine, "ready")


async def test_a_long_step_is_not_a_death(start: Start) -> None:
    engine = await start("delay=2.0", limits=Limits(pulse_s=0.05, silence_s=1.5, stats_s=0.05))
    pid = engine.pid
    async with engine.stream(Submit("a", (1, 2), 1, GREEDY)) as events:
        stale = await engine.stats()  # answers although the child does not
        assert stale.output_tokens == 0
        assert isinstance([event async for event in events][-1], Finish)
    assert engine.pid == pid


async def test_a_silent_child_is_dead(start: Start) -> None:
    engine = await start(limits=Limits(pulse_s=0.05, silence_s=0.5, backoff_s=0.01))
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    [last] = await collect(engine, Submit("a", (1, 2), 5, GREEDY))
    assert isinstance(last, Fail)
    assert "no sign of life" in last.log
    await until(engine, "ready")


async def test_signals_from_the_terminal_do_not_end_the_child(start: Start) -> None:
    engine = await start("delay=0.005")
    assert engine.pid is not None
    async with engine.stream(Submit("a", (1, 2), 20, GREEDY)) as events:
        await anext(events)
        os.kill(engine.pid, signal.SIGINT)
        os.kill(engine.pid, signal.SIGTERM)
        assert isinstance([event async for event in events][-1], Finish)


async def test_a_crash_while_starting_names_the_signal(start: Start) -> None:
    with pytest.raises(StartError) as caught:
        await start("start=crash")
    assert caught.value.code == "crashed"
    assert "SIGKILL" in caught.value.message


async def test_a_start_that_hangs_is_given_up(start: Start) -> None:
    with pytest.raises(StartError, match="made no progress"):
        await start("start=hang", limits=Limits(pulse_s=0.05, start_s=0.5))


async def test_an_interpreter_that_is_missing(tmp_path: Path) -> None:
    engine = HostEngine(EngineSpec(engine="echo"), python=str(tmp_path / "python"))
    with pytest.raises(StartError, match="could not start"):
        await engine.start(lambda progress: None)
    assert engine.state == "failed"
    await engine.close()


async def test_an_unknown_engine_and_option_are_named(start: Start) -> None:
    with pytest.raises(StartError, match="delai"):
        await start("delai=1")
    engine = HostEngine(EngineSpec(engine="ecco"))
    with pytest.raises(StartError) as caught:
        await engine.start(lambda progress: None)
    assert (caught.value.code, caught.value.hint) == ("bad_option", "Did you mean 'echo'?")
    await engine.close()


async def test_progress_arrives_while_weights_load(start: Start) -> None:
    seen: list[Progress] = []
    engine = await start("load_bytes=4000", on_progress=seen.append)
    assert seen == [Progress("weights", done, 4000) for done in (0, 1000, 2000, 3000, 4000)]
    assert engine.info.load_s > 0


async def test_stderr_is_logged_line_by_line(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "inferd.engine"):
        engine = await start("raise_token=7")
        await collect(engine, Submit("bad", (7, 1), 5, GREEDY))
        await until(engine, "ready")
    records = [r for r in caplog.records if r.name == "inferd.engine"]
    assert any(r.levelno == logging.ERROR and "the engine stopped" in r.message for r in records)
    assert any("RuntimeError: token 7 raises" in r.message for r in records)


async def test_closing_while_it_starts(start: Start) -> None:
    engine = HostEngine(EngineSpec(engine="echo", model="echo:start=hang"), limits=EAGER)
    starting = asyncio.create_task(engine.start(lambda progress: None))
    await eventually(lambda: engine.pid is not None)
    pid = engine.pid
    assert pid is not None
    await engine.close()
    with pytest.raises(StartError, match="stopped while it started"):
        await starting
    assert engine.state == "closed"
    assert gone(pid)


class ClosedOnceReady(HostEngine):
    """Closes after its child said that it is ready, and before `start` has heard of it."""

    closing: asyncio.Task[None]

    def _on_control(self, message: Message) -> None:
        super()._on_control(message)
        if isinstance(message, EngineInfo):
            self.closing = asyncio.create_task(self.close())


async def test_closing_at_the_moment_it_becomes_ready() -> None:
    engine = ClosedOnceReady(EngineSpec(engine="echo", model="echo:"), limits=EAGER)
    with pytest.raises(StartError, match="stopped while it started"):
        await engine.start(lambda progress: None)
    await engine.closing
    assert engine.state == "closed"
    assert engine.pid is None


async def test_cancelling_a_start_leaves_no_process(start: Start) -> None:
    engine = HostEngine(EngineSpec(engine="echo", model="echo:start=hang"), limits=EAGER)
    starting = asyncio.create_task(engine.start(lambda progress: None))
    await eventually(lambda: engine.pid is not None)
    pid = engine.pid
    assert pid is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert gone(pid)
    await engine.close()


async def test_closing_while_it_waits_to_restart(start: Start) -> None:
    engine = await start(limits=Limits(pulse_s=0.05, backoff_s=60.0))
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    await until(engine, "restarting")
    await engine.close()
    assert engine.state == "closed"


async def test_a_child_that_does_not_stop_is_killed(start: Start) -> None:
    engine = await start("hang_token=7", limits=Limits(pulse_s=0.05, stop_s=0.2))
    pid = engine.pid
    assert pid is not None
    async with engine.stream(Submit("bad", (7, 1), 5, GREEDY)) as events:
        await engine.close()
        assert isinstance(await anext(events), Fail)
    assert gone(pid)


async def test_the_socket_is_private_and_leaves_no_trace(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = await start("load_bytes=4,load_delay=0.01")
    assert os.listdir(tmp_path) == []
    assert isinstance((await collect(engine, Submit("a", (1,), 5, GREEDY)))[-1], Finish)
    await engine.close()
    assert os.listdir(tmp_path) == []


DAEMON = """
import asyncio, sys
from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine

async def main():
    engine = HostEngine(EngineSpec(engine="echo", model=sys.argv[1]))
    started = asyncio.create_task(engine.start(lambda progress: None))
    while engine.pid is None or not (started.done() or "hang" in sys.argv[1]):
        await asyncio.sleep(0.01)
    print(engine.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("model", ["echo:", "echo:start=hang"], ids=["ready", "starting"])
async def test_the_child_dies_with_its_daemon(model: str, tmp_path: Path) -> None:
    daemon = subprocess.Popen(  # noqa: ASYNC220 (starts at once)
        [sys.executable, "-c", DAEMON, model],
        env=os.environ | {"TMPDIR": str(tmp_path)},  # killed too early, it cannot clean up
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    with daemon:
        pid = int(await anyio.to_thread.run_sync(daemon.stdout.readline))
        assert not gone(pid)
        daemon.kill()
    with anyio.fail_after(20):
        await eventually(lambda: gone(pid))


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_runs_on_uvloop(start: Start, anyio_backend: object) -> None:
    engine = await start()
    ends: list[Event] = []

    async def one(name: str) -> None:
        ends.append((await collect(engine, Submit(name, (1, 2), 50, GREEDY)))[-1])

    async with anyio.create_task_group() as group:
        for i in range(100):
            group.start_soon(one, str(i))
    assert sum(isinstance(end, Finish) for end in ends) == 100
    os.kill(engine.pid or 0, signal.SIGKILL)
    await until(engine, "restarting")
    await until(engine, "ready")


def test_waiting_threads_of_the_child_sleep_soon_unless_the_operator_says_otherwise() -> None:
    found = child_environment({"PATH": "/bin"})
    assert (found["PATH"], found["GOMP_SPINCOUNT"]) == ("/bin", "10000")
    for chosen in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}):
        found = child_environment(chosen)
        assert found.items() >= chosen.items()
        assert found.get("GOMP_SPINCOUNT") == chosen.get("GOMP_SPINCOUNT")


def test_the_child_numbers_gpus_as_the_daemon_does() -> None:
    assert child_environment({})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    chosen = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert child_environment(chosen) == chosen | {"GOMP_SPINCOUNT": "10000"}
