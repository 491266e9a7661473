"""What an engine's outside asks its core beside streams: adapters, sleep, waking.

Every call is one command and one answer. A core that is gone answers nothing: `gone` ends the
calls that wait. The generations that the core holds are known here, so that the next core can be
told of them before anything is submitted to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from inferd.errors import EngineDead, EngineError, InvalidRequest, Unavailable
from inferd.messages import (
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Awake,
    DropAdapter,
    LoadAdapter,
    MemoryUse,
    Sleep,
    Slept,
    Wake,
)

T = TypeVar("T")

_log = logging.getLogger("inferd.engines")

Call = LoadAdapter | DropAdapter | Sleep | Wake
Answer = AdapterInfo | AdapterFailed | AdapterDropped | Slept | Awake


class _Load:
    """A load that the core has not answered, or what it holds since."""

    def __init__(self, load: LoadAdapter) -> None:
        self.load = load
        self.waiters = 0
        self.taken = False  # somebody was told that it is held
        self.answer: asyncio.Future[AdapterInfo | AdapterFailed | None] = (
            asyncio.get_running_loop().create_future()
        )


class Calls:
    """The calls under way.

    Args:
        send: hands a command to the core, in order.
        admit: raises `Unavailable` unless the engine is ready.
    """

    def __init__(self, send: Callable[[Call], None], admit: Callable[[], None]) -> None:
        self._send = send
        self._admit = admit
        self._live = False  # whether there is a core to send to
        self._held: dict[str, tuple[_Load, AdapterInfo]] = {}
        self._loads: dict[str, _Load] = {}
        self._drops: dict[str, asyncio.Future[None]] = {}
        self._turns: list[asyncio.Future[MemoryUse | None]] = []  # sleeping and waking, in order

    async def load(self, load: LoadAdapter) -> AdapterInfo:
        """See `Engine.load_adapter`. Who stops waiting for it gives it up."""
        while (drop := self._drops.get(load.adapter)) is not None:
            await asyncio.wait({drop})
        self._admit()
        if held := self._held.get(load.adapter):
            held[0].taken = True
            return held[1]
        under_way = self._loads.get(load.adapter)
        if under_way is None:
            under_way = self._loads[load.adapter] = _Load(load)
            self._send(load)
        under_way.waiters += 1
        try:
            await asyncio.wait({under_way.answer})
            under_way.taken = True
        finally:
            under_way.waiters -= 1
            self._drop_unwanted(under_way)  # the answer and the giving up may come at once
        answer = under_way.answer.result()
        if isinstance(answer, AdapterInfo):
            return answer
        raise EngineDead("The model's engine stopped") if answer is None else _error(answer)

    async def drop(self, adapter: str) -> None:
        """See `Engine.drop_adapter`."""
        while (load := self._loads.get(adapter)) is not None:
            await asyncio.wait({load.answer})
        if adapter in self._held:
            self._begin_drop(adapter)
        if (drop := self._drops.get(adapter)) is not None:
            await asyncio.wait({drop})

    async def settled(self) -> None:
        """Until no load or drop is under way."""
        while self._loads or self._drops:
            loads: list[asyncio.Future[Any]] = [load.answer for load in self._loads.values()]
            await asyncio.wait([*loads, *self._drops.values()])

    async def turn(self, call: Sleep | Wake) -> MemoryUse | None:
        """Sleep or wake: what the core holds then, None if it is gone."""
        answer: asyncio.Future[MemoryUse | None] = asyncio.get_running_loop().create_future()
        self._turns.append(answer)
        self._send(call)
        await asyncio.wait({answer})
        return answer.result()

    def answer(self, message: Answer) -> None:
        """Take in what the core says."""
        if isinstance(message, Slept | Awake):
            if self._turns:  # else it was given up: the engine closes
                _resolve(self._turns.pop(0), message.memory)
        elif isinstance(message, AdapterDropped):
            if (drop := self._drops.pop(message.adapter, None)) is not None:
                _resolve(drop, None)
        elif (load := self._loads.pop(message.adapter, None)) is not None:
            self._loaded(load, message)
        elif isinstance(message, AdapterFailed):  # told anew, and it does not fit any more
            self._held.pop(message.adapter, None)
            _log.error("adapter %s was lost: %s", message.adapter, message.message)

    def gone(self) -> None:
        """The core is gone: what was under way has failed, and what was dropped is dropped."""
        self._live = False
        loads, self._loads = self._loads, {}
        for load in loads.values():
            _resolve(load.answer, None)
        drops, self._drops = self._drops, {}
        for drop in drops.values():
            _resolve(drop, None)
        turns, self._turns = self._turns, []
        for turn in turns:
            _resolve(turn, None)

    def begin(self) -> None:
        """There is a new core: have it hold what the one before it held."""
        self._live = True
        for held, _ in self._held.values():
            self._send(held.load)

    def _loaded(self, load: _Load, answer: AdapterInfo | AdapterFailed) -> None:
        _resolve(load.answer, answer)
        if isinstance(answer, AdapterInfo):
            self._held[answer.adapter] = (load, answer)
            self._drop_unwanted(load)

    def _drop_unwanted(self, load: _Load) -> None:
        """Drop what is held although nobody waits for it any more."""
        held = self._held.get(load.load.adapter)
        if held is not None and held[0] is load and not (load.waiters or load.taken):
            self._begin_drop(load.load.adapter)

    def _begin_drop(self, adapter: str) -> None:
        """Hold it no longer. A core that is gone need not be told."""
        del self._held[adapter]
        if not self._live:
            return
        self._drops[adapter] = asyncio.get_running_loop().create_future()
        self._send(DropAdapter(adapter))


def _error(failed: AdapterFailed) -> Exception:
    """What a caller of `load` is told."""
    if failed.code in ("invalid", "unsupported"):
        return InvalidRequest(failed.message)
    if failed.code == "out_of_memory":
        return Unavailable(failed.message, log=failed.log)
    return EngineError(failed.message, log=failed.log)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
