"""An engine whose core runs on a thread of this process; for tests and tools.

A core that raises ends the engine (`failed`): only `engines/host` restarts.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from inferd.engines import loop as core_loop
from inferd.engines.base import CoreFactory, EngineSpec, EngineState, Events, Progress
from inferd.engines.calls import Answer, Calls
from inferd.engines.streams import Streams
from inferd.engines.wire import Command, GetStats, Message, Stop
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

T = TypeVar("T")

_log = logging.getLogger("inferd.engines.local")


class LocalEngine:
    """`factory(spec, …)` on a thread, behind the `Engine` protocol."""

    def __init__(self, factory: CoreFactory, spec: EngineSpec) -> None:
        self._factory = factory
        self._spec = spec
        self._state: EngineState = "starting"
        self._info: EngineInfo | None = None
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._streams = Streams(self._commands.put, self._admit)
        self._calls = Calls(self._commands.put, self._admit)
        self._turn = asyncio.Lock()  # to sleep or to wake
        self._memory = MemoryUse()
        self._stats: list[asyncio.Future[EngineStats]] = []  # who waits, in order
        self._thread: threading.Thread | None = None
        self._on_progress: Callable[[Progress], None] = lambda progress: None

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def info(self) -> EngineInfo:
        if self._info is None:
            raise Unavailable("The model is starting")
        return self._info

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        self._on_progress = on_progress
        try:
            info = await self._launch()
        except StartError:
            self._state = "failed"
            raise
        return info

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        self._admit()
        return await self._calls.load(load)

    async def drop_adapter(self, adapter: str) -> None:
        await self._calls.drop(adapter)

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        async with self._turn:
            if self._streams.num_open:
                raise EngineError(f"{self._streams.num_open} requests run")
            if self._state == "ready":
                self._state = "asleep"  # nothing comes in from here on
                await self._calls.settled()
                await self._streams.ended()
                await self._calls.turn(Sleep())
            if self._state != "asleep":
                raise EngineError(f"The model is {self._state}")
            if level == 2 and self._thread is not None:
                await self._stop()
                self._calls.gone()
                self._memory = MemoryUse()
            return self._memory

    async def wake(self) -> MemoryUse:
        async with self._turn:
            if self._state == "asleep" and self._thread is None:
                await self._launch()
            elif self._state == "asleep":
                await self._calls.turn(Wake())
                if self._state == "asleep":
                    self._state = "ready"
            if self._state != "ready":
                raise StartError("crashed", f"The model is {self._state}")
            return self._memory

    def stream(self, submit: Submit) -> AbstractAsyncContextManager[Events]:
        return self._streams.open(submit)

    async def stats(self) -> EngineStats:
        if self._state != "ready":
            return EngineStats()
        waiter: asyncio.Future[EngineStats] = asyncio.get_running_loop().create_future()
        self._stats.append(waiter)
        self._commands.put(GetStats())
        return await waiter

    async def close(self) -> None:
        self._state = "closed"
        self._end("The model was stopped before this request was finished")
        if self._thread is not None:
            await self._stop()

    async def _launch(self) -> EngineInfo:
        """Run a core on a new thread. Raises `StartError`; leaves no thread then."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[EngineInfo] = loop.create_future()
        thread = threading.Thread(
            target=self._run, args=(loop, ready, self._on_progress), name="engine", daemon=True
        )
        self._thread = thread
        thread.start()
        try:
            self._info = await ready
        except StartError:
            self._thread = None
            raise
        self._memory = self._info.memory
        self._calls.begin()
        if self._state in ("starting", "asleep"):
            self._state = "ready"
        return self._info

    async def _stop(self) -> None:
        """End the thread."""
        thread, self._thread = self._thread, None
        assert thread is not None
        self._commands.put(Stop())
        await asyncio.to_thread(thread.join)

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[EngineInfo],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """The thread."""

        def call(function: Callable[..., object], *arguments: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(function, *arguments)

        try:
            core = self._factory(self._spec, lambda progress: call(on_progress, progress))
        except StartError as error:
            call(_reject, ready, error)
            return
        except Exception as error:
            _log.exception("the engine did not start")
            message = "The engine failed to start"
            call(_reject, ready, StartError("crashed", message, log=repr(error)))
            return
        call(_resolve, ready, core.info)
        try:
            core_loop.run(core, self._receive, lambda messages: call(self._dispatch, messages))
        except Exception as error:
            _log.exception("the engine stopped")
            call(self._die, repr(error))
        finally:
            core.close()

    def _admit(self) -> None:
        if self._state != "ready":
            raise Unavailable(f"The model is {self._state}")

    def _receive(self, wait: float | None) -> list[Command]:
        commands: list[Command] = []
        try:
            if wait != 0:
                commands.append(self._commands.get(timeout=wait))
            while True:
                commands.append(self._commands.get_nowait())
        except queue.Empty:
            return commands

    def _dispatch(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Tokens | PromptScored | Finish | Fail):
                self._streams.dispatch(message)
            elif isinstance(message, Answer):
                if isinstance(message, Slept | Awake):
                    self._memory = message.memory
                self._calls.answer(message)
            elif isinstance(message, EngineStats) and self._stats:  # else closed meanwhile
                _resolve(self._stats.pop(0), message)

    def _die(self, log: str) -> None:
        if self._state != "closed":
            self._state = "failed"
        self._end(EngineDead().message, log)

    def _end(self, message: str, log: str = "") -> None:
        self._streams.fail_all(message, log)
        self._calls.gone()
        for waiter in self._stats:
            _resolve(waiter, EngineStats())
        self._stats.clear()


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _reject(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
