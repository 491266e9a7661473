"""One instance of a model: its engine, its memory, the adapters that it holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from inferd.engines.base import Engine, Progress
from inferd.errors import EngineError, InvalidRequest
from inferd.ledger import Reservation
from inferd.messages import AdapterInfo, LoadAdapter, MemoryUse, SleepLevel
from inferd.replicas.routing import Recent

ReplicaState = Literal["new", "ready", "draining", "asleep", "gone"]

_log = logging.getLogger("inferd.replicas")


class Replica:
    """An engine and what goes with it.

    States: new → ready ⇄ asleep, ready ⇄ draining, and gone from any of them. A `ready` one may
    still be restarting: see `usable`.
    """

    def __init__(self, key: str, device: str, engine: Engine) -> None:
        self.key = key
        self.device = device
        self.engine = engine
        self.state: ReplicaState = "new"
        self.in_flight = 0
        self.recent = Recent()
        self.held: set[str] = set()  # adapters
        self._refused: set[str] = set()
        self._reservation: Reservation | None = None

    @property
    def usable(self) -> bool:
        return self.state == "ready" and self.engine.state == "ready"

    @property
    def dead(self) -> bool:
        """Whether it will not come back by itself."""
        return self.state in ("ready", "draining") and self.engine.state in ("failed", "closed")

    def has_room(self, reservation: Reservation) -> None:
        """It may hold this until it sleeps or is gone."""
        if self.state == "gone":
            reservation.release()
        else:
            self._reservation = reservation

    async def bring_up(
        self, adapters: Mapping[str, LoadAdapter], on_progress: Callable[[Progress], None]
    ) -> None:
        """Start or wake the engine, and have it hold all `adapters`, which may change meanwhile.
        It has room. Raises StartError; it is gone then, and so is its memory.
        """
        reservation = self._reservation
        assert reservation is not None
        try:
            if self.state == "new":
                memory = (await self.engine.start(on_progress)).memory
            else:
                memory = await self.engine.wake()
            reservation.settle(memory)
            await self.hold(adapters)
        except BaseException:
            await self.close()
            raise
        self.recent.clear()
        self.state = "ready"

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        """Give memory back, and return what stays; `asleep` already, it runs nothing. One that
        can't sleep is closed instead."""
        try:
            memory = await self.engine.sleep(level)
        except EngineError as error:
            _log.warning("replica %s is stopped, as it cannot sleep: %s", self.key, error)
            await self.close()
            return MemoryUse()
        self._keep(memory)
        return memory

    def prepare_sleep(self) -> bool:
        """Reserve what sleeping at level 1 will take; False where there is no room for that."""
        return self._reservation is None or self._reservation.prepare_sleep()

    def cancel_sleep(self) -> None:
        """Undo `prepare_sleep`."""
        if self._reservation is not None:
            self._reservation.cancel_sleep()

    async def look_after_sleep(self) -> None:
        """Take note if its process died asleep: no memory is held for it any more."""
        if self._reservation is not None:
            self._keep(await self.engine.sleep(1))

    async def close(self) -> None:
        """End it. Idempotent."""
        self.state = "gone"
        await self.engine.close()
        self._release()

    async def load(self, load: LoadAdapter) -> AdapterInfo:
        """See `Engine.load_adapter`."""
        info = await self.engine.load_adapter(load)
        self.held.add(load.adapter)
        return info

    async def drop(self, adapter: str) -> None:
        """See `Engine.drop_adapter`."""
        self.held.discard(adapter)
        self._refused.discard(adapter)
        await self.engine.drop_adapter(adapter)

    def lacks(self, adapters: Mapping[str, LoadAdapter]) -> bool:
        """Whether it holds anything else than `adapters`, but for those it refused."""
        return self.held | self._refused != adapters.keys()

    def refuses(self, adapter: str) -> bool:
        """Whether it could not load an adapter that others hold."""
        return adapter in self._refused

    async def hold(self, adapters: Mapping[str, LoadAdapter]) -> None:
        """Hold `adapters` and no others. One that does not load any more is logged and left out.

        Raises InferdError where the engine is not there to do it.
        """
        while self.lacks(adapters):
            missing = adapters.keys() - self.held - self._refused
            for load in [adapters[adapter] for adapter in missing]:
                await self._try_load(load)
            for surplus in (self.held | self._refused) - adapters.keys():
                await self.drop(surplus)

    async def _try_load(self, load: LoadAdapter) -> None:
        try:
            await self.load(load)
        except InvalidRequest as error:
            self._refused.add(load.adapter)
            _log.error("replica %s lacks adapter %s: %s", self.key, load.adapter, error)

    def _keep(self, memory: MemoryUse) -> None:
        """Hold no more than a sleeping engine does."""
        if memory == MemoryUse():
            self._release()
        elif self._reservation is not None:
            self._reservation.shrink(memory)

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None


def sum_memory(uses: Iterable[MemoryUse]) -> MemoryUse:
    """Field by field."""
    together = list(uses)
    names = MemoryUse.__struct_fields__
    return MemoryUse(**{name: sum(getattr(use, name) for use in together) for name in names})
