"""An engine whose core runs in a child process, restarted when it dies.

States: starting → ready ⇄ restarting → failed, ready ⇄ asleep, and closed from any of them. A
death ends every stream with `Fail("dead")`. Restarts wait ever longer; too many in a row end in
`failed`. A child that dies asleep is not missed: waking launches another, as after level 2.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from msgspec.structs import replace

from inferd.engines.base import EngineSpec, EngineState, Events, Progress
from inferd.engines.calls import Answer, Calls
from inferd.engines.process import ChildProcess, Ending, Limits
from inferd.engines.streams import Streams
from inferd.engines.wire import Command, GetStats, Message, StartFailed
from inferd.errors import EngineDead, EngineError, StartError, Unavailable
from inferd.messages import (
    AdapterInfo,
    Awake,
    EngineInfo,
    EngineStats,
    Fail,
    Finish,
    LoadAdapter,
    MemoryUse,
    PromptScored,
    Sleep,
    SleepLevel,
    Slept,
    Submit,
    Tokens,
    Wake,
)

_log = logging.getLogger("inferd.engines.host")


class HostEngine:
    """`spec` in a child process, behind the `Engine` protocol.

    Args:
        python: the interpreter that runs the child; its environment must hold inferd.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        python: str = sys.executable,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._python = python
        self._limits = limits
        self._clock = clock
        self._state: EngineState = "starting"
        self._info: EngineInfo | None = None
        self._reason: StartError | None = None
        self._child: ChildProcess | None = None
        self._started: asyncio.Future[EngineInfo] | None = None  # while a child starts
        self._progressed = False
        self._on_progress: Callable[[Progress], None] = lambda progress: None
        self._keeper: asyncio.Task[None] | None = None
        self._failures = 0  # in a row
        self._ready_at = 0.0  # on the clock
        self._retry_at = 0.0
        self._streams = Streams(self._send, self._admit)
        self._calls = Calls(self._send, self._admit)
        self._turn = asyncio.Lock()  # to sleep or to wake
        self._memory = MemoryUse()
        self._stats = EngineStats()
        self._fresh: asyncio.Future[EngineStats] | None = None  # statistics under way

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def info(self) -> EngineInfo:
        if self._info is None:
            raise Unavailable("The model is starting")
        return self._info

    @property
    def reason(self) -> StartError | None:
        """Why it last failed to run; None if it never did."""
        return self._reason

    @property
    def pid(self) -> int | None:
        """The child's process id; None where there is none."""
        return None if self._child is None else self._child.pid

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        self._on_progress = on_progress
        try:
            info = await self._launch()
        except StartError as error:
            self._reason = error
            if self._state != "closed":
                self._state = "failed"
            raise
        self._keeper = asyncio.create_task(self._keep(), name="engine-keeper")
        return info

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        self._admit()
        return await self._calls.load(load)

    async def drop_adapter(self, adapter: str) -> None:
        await self._calls.drop(adapter)

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        async with self._turn:
            if self._state == "ready":
                await self._lie_down()
            if self._state != "asleep":
                raise EngineError(f"The model is {self._state}")
            if level == 2 and self._child is not None:
                await self._child.stop()
                assert self._keeper is not None
                await asyncio.wait({self._keeper})
            return self._memory

    async def wake(self) -> MemoryUse:
        async with self._turn:
            if self._state == "asleep" and self._child is not None:
                await self._get_up()
            if self._state == "asleep":
                try:
                    await self._launch()
                except StartError as error:
                    self._reason = error
                    raise
                self._keeper = asyncio.create_task(self._keep(), name="engine-keeper")
            if self._state != "ready":
                raise StartError("crashed", f"The model is {self._state}")
            return self._memory

    def stream(self, submit: Submit) -> AbstractAsyncContextManager[Events]:
        return self._streams.open(submit)

    async def stats(self) -> EngineStats:
        """As of now; as of the last answer where the child is in a long step or not ready."""
        if self._state != "ready":
            return self._stats
        if self._fresh is None:
            self._fresh = asyncio.get_running_loop().create_future()
            self._send(GetStats())
        await asyncio.wait({self._fresh}, timeout=self._limits.stats_s)
        return self._stats

    async def close(self) -> None:
        self._state = "closed"
        self._streams.fail_all("The model was stopped before this request was finished")
        self._calls.gone()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._child is not None:
            if self._started is not None:  # it would not listen while it loads
                self._child.kill("was stopped while it started")
            await self._child.stop()

    # ------------------------------------------------------------ one child

    async def _launch(self) -> EngineInfo:
        """Start a child and wait until it is ready. Raises `StartError`; leaves none behind."""
        began = self._clock()
        started = self._started = asyncio.get_running_loop().create_future()
        child = await ChildProcess.launch(self._spec, self._python, self._limits, self._on_messages)
        self._child = child
        try:
            await self._until_started(child, started)
            self._info = replace(started.result(), load_s=self._clock() - began)
        except BaseException:
            self._child = None
            child.kill("was not wanted any more")
            await asyncio.wait({child.ended})
            raise
        finally:
            self._started = None
            if started.done() and not started.cancelled():
                started.exception()  # seen
        child.watch_turns = True
        self._calls.begin()  # before anyone may submit
        self._ready_at = self._clock()
        self._stats = EngineStats()
        self._memory = self._info.memory
        self._state = "ready"
        return self._info

    async def _until_started(
        self, child: ChildProcess, started: asyncio.Future[EngineInfo]
    ) -> None:
        """Until `started` is done. Raises `StartError` if the child ends or stalls before that."""
        either: set[asyncio.Future[Any]] = {started, child.ended}
        while True:
            if self._state == "closed":  # perhaps after it became ready
                raise StartError("crashed", "The model was stopped while it started")
            if started.done():
                return
            self._progressed = False
            await asyncio.wait(
                either,
                timeout=self._limits.start_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if child.ended.done() and not started.done():
                raise _crashed(child.ended.result())
            if not started.done() and not self._progressed:
                child.kill(f"made no progress for {self._limits.start_s:g} s while it started")
                raise _crashed(await child.ended)

    def _on_messages(self, messages: list[Message]) -> None:
        dispatch = self._streams.dispatch
        for message in messages:
            if isinstance(message, Tokens | Finish | Fail | PromptScored):
                dispatch(message)
            else:
                self._on_control(message)

    def _on_control(self, message: Message) -> None:
        if isinstance(message, EngineStats):
            self._stats = message
            self._refreshed()
        elif isinstance(message, Progress):
            self._progressed = True
            self._on_progress(message)
        elif isinstance(message, Answer):
            if isinstance(message, Slept | Awake):
                self._memory = message.memory
            self._calls.answer(message)
        elif self._started is None or self._started.done():
            return
        elif isinstance(message, EngineInfo):
            self._started.set_result(message)
        elif isinstance(message, StartFailed):
            self._started.set_exception(message.error())

    def _refreshed(self) -> None:
        if self._fresh is not None:
            self._fresh.set_result(self._stats)
            self._fresh = None

    def _send(self, command: Command) -> None:
        assert self._child is not None
        self._child.send(command)

    def _admit(self) -> None:
        """Raises `Unavailable` unless a child is ready."""
        if self._state == "restarting":
            load_s = 0.0 if self._info is None else self._info.load_s
            wait = max(1.0, self._retry_at + load_s - self._clock())
            raise Unavailable("The model is restarting", retry_after=wait)
        if self._state == "failed":
            log = "" if self._reason is None else str(self._reason)
            raise Unavailable("The model has failed", retry_after=60.0, log=log)
        if self._state != "ready":
            raise Unavailable(f"The model is {self._state}")

    # ------------------------------------------------------------ sleep

    async def _lie_down(self) -> None:
        """From `ready` to `asleep`, at level 1."""
        if self._streams.num_open:
            raise EngineError(f"{self._streams.num_open} requests run")
        self._state = "asleep"  # nothing comes in from here on
        try:
            await self._calls.settled()
            await self._streams.ended()
        except asyncio.CancelledError:
            if self._state == "asleep" and self._child is not None:
                self._state = "ready"
            raise
        if self._child is not None:
            await self._calls.turn(Sleep())

    async def _get_up(self) -> None:
        """From `asleep` at level 1 to `ready`, unless the child dies over it."""
        try:
            await self._calls.turn(Wake())
        finally:
            if self._state == "asleep" and self._child is not None:
                self._state = "ready"  # whoever gave up waiting: what is sent now comes after it

    # ------------------------------------------------------------ restarts

    async def _keep(self) -> None:
        """Restart the child whenever it ends, until there is no point any more."""
        while self._child is not None:
            ending = await asyncio.shield(self._child.ended)
            if self._state == "closed":
                return
            if self._state == "asleep":
                self._child = None
                self._memory = MemoryUse()
                self._calls.gone()
                self._streams.fail_all(EngineDead().message, f"the process {ending.reason}")
                return
            quick = self._clock() - self._ready_at < self._limits.quick_s
            self._failures = self._failures + 1 if quick else 1
            self._bury(ending)
            await self._restart()

    def _bury(self, ending: Ending) -> None:
        """The child is gone: tell who waits for it."""
        self._state = "restarting"
        self._child = None
        self._reason = _crashed(ending)
        _log.error("the model's process %s", ending.reason)
        again = "; it is restarting" if self._failures <= self._limits.max_quick else ""
        self._streams.fail_all(EngineDead().message + again, f"the process {ending.reason}")
        self._calls.gone()
        self._stats = EngineStats()
        self._refreshed()

    async def _restart(self) -> None:
        """Launch again after a pause, as often as it takes or `max_quick` allows."""
        limits = self._limits
        while self._failures <= limits.max_quick:
            delay = min(limits.backoff_s * 2 ** (self._failures - 1), limits.backoff_max_s)
            self._retry_at = self._clock() + delay
            await asyncio.sleep(delay)
            try:
                await self._launch()
                return
            except StartError as error:
                _log.error("the model did not restart: %s", error)
                self._reason = error
                self._failures += 1
        self._state = "failed"
        _log.error("the model died %d times in a row; it is not restarted again", self._failures)


def _crashed(ending: Ending) -> StartError:
    return StartError("crashed", f"The model's process {ending.reason}", log=ending.log)
