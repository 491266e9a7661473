"""A machine for tests: a clock that stands still, and models that do as replica sets do."""

from __future__ import annotations

import asyncio

from inferd.ledger import HOST, Ledger, Need, Reservation
from inferd.messages import MemoryUse, SleepLevel
from inferd.residency import Eviction, Limits, Residency

QUANTUM = 10
LIMITS = Limits(quantum=QUANTUM, least=0, drain=60, wait=300)


class ManualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def wait(self, event: asyncio.Event, until: float) -> None:
        if event.is_set() or until <= self._now:
            return
        entry = (until, asyncio.Event())
        self._timers.append(entry)
        waits = [asyncio.ensure_future(each.wait()) for each in (event, entry[1])]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timers.remove(entry)
            for wait in waits:
                wait.cancel()

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everyone do what is due."""
        self._now += seconds
        for until, timer in self._timers:
            if until <= self._now:
                timer.set()
        await settle()


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(50):
        await asyncio.sleep(0)


class Model:
    """A tenant of one instance."""

    def __init__(self, name: str, machine: Machine, need: Need, device: str = HOST) -> None:
        self.name = name
        self.need = need
        self.in_flight = 0
        self.last_used = self.resident_since = 0.0
        self.reservation: Reservation | None = None
        self.fails_to_sleep: Exception | None = None
        self.slept: list[int] = []
        self._machine = machine
        self._device = device
        self._going = asyncio.Event()
        self._going.set()
        self._waking = asyncio.Lock()

    @property
    def awake(self) -> bool:
        held = self.reservation
        return held is not None and held.held and not held.asleep and not held.loading

    async def wake(self) -> None:
        """Have memory, and be loaded into it."""
        async with self._waking:
            if not self.awake:
                room = self._machine.residency
                self.reservation = await room.acquire(self, "0", self._device, self.need)
                self.loaded()

    def loaded(self) -> None:
        assert self.reservation is not None
        self.resident_since = self._machine.clock.now()
        self.reservation.settle(used(self.need))

    async def open(self) -> None:
        """Begin a request, as soon as the model is there for it."""
        while True:
            await self._going.wait()
            await self.wake()
            if self._going.is_set() and self.awake:
                break
        self.in_flight += 1
        self.last_used = self._machine.clock.now()

    def close(self) -> None:
        """End a request."""
        self.in_flight -= 1
        self.last_used = self._machine.clock.now()
        if not self.in_flight:
            self._machine.residency.changed()

    async def pause(self) -> None:
        self._going.clear()

    def resume(self) -> None:
        self._going.set()

    async def sleep(self, level: SleepLevel) -> None:
        assert not self.in_flight, "it must not sleep while it works"
        assert not self._going.is_set(), "it must be paused before it sleeps"
        await asyncio.sleep(0)
        if self.fails_to_sleep is not None:
            raise self.fails_to_sleep
        self.slept.append(level)
        assert self.reservation is not None
        if level == 1:
            self.reservation.shrink(MemoryUse(weights=self.need.weights, process=self.need.process))
        else:
            self.reservation.release()


def used(need: Need) -> MemoryUse:
    """What an engine measures that takes what it said it would."""
    return MemoryUse(
        weights=need.weights,
        kv_cache=need.kv_cache,
        adapters=need.adapters,
        workspace=need.workspace,
        process=need.process,
        measured=need.total,
    )


class Machine:
    """A ledger, its residency and a clock."""

    def __init__(self, budgets: dict[str, int], limits: Limits = LIMITS) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(budgets)
        self.evictions: list[Eviction] = []
        self.residency = Residency(
            self.ledger, limits=limits, clock=self.clock, on_evict=self.evictions.append
        )

    def model(self, name: str, need: Need, device: str = HOST) -> Model:
        return Model(name, self, need, device)

    async def serve(self, model: Model) -> None:
        """Wake `model` by one request that is over at once."""
        await model.open()
        model.close()

    def told(self) -> list[tuple[str, int]]:
        """Who was evicted, and how deeply."""
        return [(each.owner, each.level) for each in self.evictions]
