"""The replicas of one model: brought up one after another, put to sleep, retired."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from inferd.engines.base import Engine, EngineSpec, Progress
from inferd.errors import EngineError, InferdError, StartError
from inferd.ledger import Need
from inferd.messages import EngineInfo, LoadAdapter, MemoryUse, SleepLevel
from inferd.replicas.replica import Replica, sum_memory
from inferd.residency import Room, Tenant

_log = logging.getLogger("inferd.replicas")


class Members:
    """All replicas, and what they have in common.

    Args:
        tenant: in whose name memory is asked for.
        devices: where replicas may be; a new one goes where the fewest are.
        need: of one replica; what was measured takes its place after the first start.
        on_brought: told of each start or wake, and how it went, unless it was given up.
        on_death: told of each that will not come back.
    """

    def __init__(
        self,
        spec: EngineSpec,
        tenant: Tenant,
        room: Room,
        devices: Sequence[str],
        need: Need,
        make: Callable[[EngineSpec], Engine],
        on_brought: Callable[[StartError | None], None],
        on_death: Callable[[Replica], None],
    ) -> None:
        self.need = need
        self.info: EngineInfo | None = None
        self.adapters: dict[str, LoadAdapter] = {}
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self._spec = spec
        self._tenant = tenant
        self._room = room
        self._devices = devices
        self._make = make
        self._on_brought = on_brought
        self._on_death = on_death
        self._has_room = False  # what is brought up
        self._replicas: list[Replica] = []
        self._number = 0
        self._bringing: asyncio.Task[StartError | None] | None = None
        self._moving = asyncio.Lock()  # who sleeps or wakes

    @property
    def all(self) -> tuple[Replica, ...]:
        return tuple(self._replicas)

    @property
    def usable(self) -> list[Replica]:
        return [each for each in self._replicas if each.usable]

    @property
    def num_pending(self) -> int:
        """Starting or waking."""
        return 0 if self._bringing is None else 1

    @property
    def has_room(self) -> bool:
        """Whether one starts or wakes, and needs not ask for room any more."""
        return self._bringing is not None and self._has_room

    def count(self, state: str) -> int:
        return sum(each.state == state for each in self._replicas)

    def bring_one(self) -> asyncio.Task[StartError | None]:
        """Start or wake one more replica, unless one is under way. What went wrong is the task's
        result; where the replicas were put to sleep instead, it is cancelled."""
        if self._bringing is None:
            self._has_room = False
            self._bringing = asyncio.create_task(self._bring(), name="replica")
            self._bringing.add_done_callback(self._brought)
        return self._bringing

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        """Put all to sleep. One that is starting or waking is given up, but one that waits for
        room goes on waiting. Raises EngineError where one runs something."""
        if self.has_room:
            await self._give_up()
        async with self._moving:
            if busy := sum(each.in_flight for each in self._replicas):
                raise EngineError(f"{busy} requests run")
            started = [each for each in self._replicas if each.state != "new"]
            for replica in started:
                replica.state = "asleep"  # all at once: nobody is sent there any more
            memory = sum_memory([await each.sleep(level) for each in started])
            self._forget_gone()
            return memory

    async def fall_asleep(self, level: SleepLevel) -> None:
        """Sleep unless a request is faster; at level 1 only where there is room for what that
        brings to the host."""
        light = level == 1 and all(each.prepare_sleep() for each in self._replicas)
        try:
            await self.sleep(1 if light else 2)
        except EngineError:
            for replica in self._replicas:
                replica.cancel_sleep()

    async def look_after(self) -> None:
        """Retire the dead and the drained; have all that are usable hold all adapters."""
        for replica in self.all:
            if replica.dead:
                await self.retire(replica)
                self._on_death(replica)
            elif replica.state == "draining" and not replica.in_flight:
                await self.retire(replica)
            elif replica.state == "asleep" and not self._moving.locked():
                async with self._moving:
                    if replica.state == "asleep":  # whoever waited for the turn may have woken it
                        await replica.look_after_sleep()
            elif replica.usable and replica.lacks(self.adapters):
                await self.hold(replica)

    async def hold(self, replica: Replica) -> None:
        """Have `replica` hold all adapters; where it dies over that, it is looked after later."""
        try:
            await replica.hold(self.adapters)
        except InferdError as error:
            _log.warning("replica %s lacks adapters: %s", replica.key, error)

    def drain_one(self) -> None:
        """Let the least busy take no more requests; once it has ended what it runs, it goes."""
        if usable := self.usable:
            min(reversed(usable), key=lambda each: each.in_flight).state = "draining"

    def spare_one(self) -> bool:
        """Have one that drains take requests again; False where none does."""
        for replica in self._replicas:
            if replica.state == "draining" and not replica.dead:
                replica.state = "ready"
                return True
        return False

    async def retire(self, replica: Replica) -> None:
        replica.state = "gone"
        self._forget_gone()
        await replica.close()

    def forgo(self) -> None:
        """Nobody needs the one that is brought up: give it up, if it has no room yet."""
        if self._bringing is not None and not self._has_room:
            self._bringing.cancel()

    async def close(self) -> None:
        await self._give_up()
        async with self._moving:
            await asyncio.gather(*(each.close() for each in self._replicas))
            self._forget_gone()

    async def _give_up(self) -> None:
        """End a start or a wake that is under way."""
        if self._bringing is not None:
            self._bringing.cancel()
            await asyncio.wait({self._bringing})

    def _brought(self, task: asyncio.Task[StartError | None]) -> None:
        self._bringing = None
        if not task.cancelled():
            self._on_brought(task.result())

    async def _bring(self) -> StartError | None:
        replica = next((each for each in self._replicas if each.state == "asleep"), None)
        if replica is None:
            replica = self._add()
        try:
            while not await self._try_bring(replica):
                pass
        except StartError as error:
            return error
        except InferdError as error:
            return StartError("crashed", error.message, log=str(error))
        finally:
            if replica.state == "new":  # there was no room
                await replica.close()
            self._forget_gone()
        return None

    def _add(self) -> Replica:
        there = Counter(each.device for each in self._replicas)
        device = min(self._devices, key=lambda each: there[each])
        spec = self._spec
        if len(self._devices) > 1:
            spec = replace(spec, device=device)
        replica = Replica(str(self._number), device, self._make(spec))
        self._number += 1
        self._replicas.append(replica)
        return replica

    async def _try_bring(self, replica: Replica) -> bool:
        """Bring it up once it has room. False: it fell asleep anew meanwhile, and lost the room."""
        self._has_room = False
        reservation = await self._room.acquire(self._tenant, replica.key, replica.device, self.need)
        self._has_room = True
        replica.has_room(reservation)
        async with self._moving:
            if replica.state == "gone":
                raise StartError("crashed", "The model could not sleep, and was stopped")
            if reservation.asleep or not reservation.held:
                return False
            await replica.bring_up(self.adapters, self.on_progress)
        self.need = reservation.need
        self.info = self.info or replica.engine.info
        return True

    def _forget_gone(self) -> None:
        self._replicas = [each for each in self._replicas if each.state != "gone"]
