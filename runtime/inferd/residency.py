"""Which models are in memory: makes room by putting others to sleep, in one fair order.

Whoever needs room takes its turn behind those who came before. In its turn it may put idle models
to sleep, the least recently used first, as lightly as suffices; failing that, busy ones that had
their time: these take no new requests, end what they run, and sleep. A need that no eviction could
ever meet is refused at once, with the smallest change that would help.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from inferd.ledger import Ledger, Need, Reservation
from inferd.messages import SleepLevel

_log = logging.getLogger("inferd.residency")


class Tenant(Protocol):
    """A model that holds memory. It calls `Room.changed` whenever `in_flight` falls to zero."""

    @property
    def name(self) -> str:
        """Unique among those that hold memory or ask for it."""

    @property
    def in_flight(self) -> int:
        """Streams that an engine works on. Those that wait for a wake or a resume do not count."""

    @property
    def last_used(self) -> float:
        """When the last stream opened or ended, by the room's clock."""

    @property
    def resident_since(self) -> float:
        """When it was last ready to serve, by the room's clock."""

    async def pause(self) -> None:
        """New streams wait from now on; those that run go on."""

    def resume(self) -> None:
        """Those that wait go on; they wake the model if it sleeps."""

    async def sleep(self, level: SleepLevel) -> None:
        """Give memory back, by `shrink` (level 1) or `release` (level 2) of every reservation.
        While it is paused and nothing runs. It waits for no room: what it waits for it gives up.
        """


class Room(Protocol):
    """Where a tenant asks for memory."""

    async def acquire(self, tenant: Tenant, key: str, device: str, need: Need) -> Reservation:
        """Hold `need` of `device`; others may be put to sleep for it. What (tenant, key) holds
        already, asleep, becomes `need`.

        Raises StartError(out_of_memory): nothing has changed for this tenant.
        """

    def changed(self) -> None:
        """Some tenant became idle: whoever waits looks again."""


@dataclass(frozen=True)
class Limits:
    """Seconds."""

    quantum: float = 10.0  # so long a model that serves stays, whoever asks
    drain: float = 60.0  # so long what it runs may take to end, once it has to go
    wait: float = 300.0  # so long an `acquire` may take in all


class Eviction(Struct, frozen=True):
    """A model to put to sleep, and why, in a sentence's half."""

    owner: str
    level: SleepLevel
    num_bytes: int  # that it frees of the device
    why: str


class Clock(Protocol):
    """Time, as residency sees it; tests pass their own."""

    def now(self) -> float: ...

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Return when `event` is set, or at `until`."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: float) -> None:
        try:
            await asyncio.wait_for(event.wait(), max(0.0, until - self.now()))
        except TimeoutError:
            pass


class Residency:
    """The room of one machine: a ledger, and who may be put to sleep.

    Args:
        on_evict: told of each eviction that was carried out.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        on_evict: Callable[[Eviction], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._on_evict = on_evict
        self._tenants: dict[str, Tenant] = {}

    def changed(self) -> None:
        """See `Room`."""

    async def acquire(self, tenant: Tenant, key: str, device: str, need: Need) -> Reservation:
        """See `Room`."""
        reservation = self._ledger.reserve(tenant.name, key, device, need)
        self._tenants[tenant.name] = tenant
        return reservation
