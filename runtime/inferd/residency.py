"""Which models are in memory: makes room by putting others to sleep, in one fair order.

Whoever needs room takes its turn behind those who came before. In its turn it may put idle models
to sleep, the least recently used first, as lightly as suffices; failing that, busy ones that had
their time: these take no new requests, end what they run, and sleep. A need that no eviction could
ever meet is refused at once, with the smallest change that would help.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

from inferd.errors import StartError, told
from inferd.evictions import Candidate, Options, choose, freed, short
from inferd.ledger import HOST, Ledger, Need, Reservation
from inferd.messages import SleepLevel
from inferd.units import human_bytes

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

    async def sleep(self, level: SleepLevel) -> object:
        """Give memory back, by `shrink` (level 1) or `release` (level 2) of every reservation.

        Only while it is paused and nothing runs. What it still asks of the room meanwhile it need
        not await. A tenant on a GPU that sleeps by itself asks `prepare_sleep` first.
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

    quantum: float = 10.0  # so long a model stays that serves, or is about to, whoever asks
    least: float = 2.0  # and one that woke, though it be idle: waking costs more than waiting
    drain: float = 60.0  # so long what it runs may take to end, once it has to go
    wait: float = 300.0  # so long an `acquire` may take in all


class Eviction(Struct, frozen=True):
    """A model put to sleep, or to be. `why` it and no other, in a few words."""

    owner: str
    level: SleepLevel
    num_bytes: int  # freed of the device that lacked them
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


class _Waiter:
    """One `acquire` under way."""

    def __init__(self, tenant: Tenant, key: str, device: str, need: Need, until: float) -> None:
        self.tenant = tenant
        self.owner = tenant.name
        self.key = key
        self.device = device
        self.need = need
        self.until = until
        self.devices = {device, HOST} if need.host else {device}
        self.news = asyncio.Event()
        self.failed: dict[str, str] = {}  # tenants that could not be put to sleep, and why


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
        self._waiters: list[_Waiter] = []  # in the order they came
        self._evicting: set[str] = set()
        ledger.watch(self.changed)

    def changed(self) -> None:
        """See `Room`."""
        present = self._ledger.owners | {waiter.owner for waiter in self._waiters}
        self._tenants = {name: t for name, t in self._tenants.items() if name in present}
        for waiter in self._waiters:
            waiter.news.set()

    async def acquire(self, tenant: Tenant, key: str, device: str, need: Need) -> Reservation:
        """See `Room`. Whoever came first is served first, on each device."""
        until = self._clock.now() + self._limits.wait
        waiter = _Waiter(tenant, key, device, need, until)
        self._waiters.append(waiter)
        self._tenants[tenant.name] = tenant
        try:
            while (lacks := self._lacks(waiter)) and (short(lacks) or not self._first(waiter)):
                await self._advance(waiter, lacks)
            return self._ledger.reserve(tenant.name, key, device, need)
        finally:
            self._waiters.remove(waiter)
            self.changed()

    def preview(self, owner: str, device: str, need: Need) -> list[Eviction]:
        """What would be put to sleep if `owner` asked for `need` once all others had their time.

        Raises StartError(out_of_memory) if that would not do.
        """
        lacks = self._ledger.lacks(owner, "", device, need)
        if not short(lacks):
            return []
        options = self._options(owner, math.inf, ())
        plan = choose(lacks, options.idle, options.busy)
        if not plan:
            raise self._refusal(owner, device, need, lacks, {})
        return [_eviction(each, level, lacks) for each, level in plan]

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken; call it when nobody waits."""
        self._ledger.check()
        assert not self._waiters
        assert not self._evicting
        assert set(self._tenants) <= self._ledger.owners, "a tenant without memory is remembered"

    # ------------------------------------------------------------ one turn

    def _lacks(self, waiter: _Waiter) -> dict[str, int]:
        return self._ledger.lacks(waiter.owner, waiter.key, waiter.device, waiter.need)

    def _first(self, waiter: _Waiter) -> bool:
        """Whether nobody who came before waits for the same device."""
        before = self._waiters[: self._waiters.index(waiter)]
        return not any(
            waiter.devices & (short(self._lacks(each)) or each.devices) for each in before
        )

    async def _advance(self, waiter: _Waiter, lacks: Mapping[str, int]) -> None:
        """Bring it nearer to its room: put one model to sleep, or wait for news."""
        waiter.news.clear()
        if not self._possible(waiter, lacks) or self._clock.now() >= waiter.until:
            raise self._refused(waiter, lacks)
        if not self._first(waiter):
            return await self._clock.wait(waiter.news, waiter.until)
        spare = self._is_spare(waiter)
        options = self._options(waiter.owner, self._clock.now(), waiter.failed)
        plan = choose(lacks, options.idle, () if spare else options.busy)
        if plan:
            deepest = max(plan, key=lambda each: each[1])  # light sleep may need what this frees
            return await self._evict(waiter, *deepest)
        if spare:  # one model's growth ends nobody's work, nor does it keep others waiting
            raise self._refused(waiter, lacks)
        await self._clock.wait(waiter.news, min(waiter.until, options.later))

    def _possible(self, waiter: _Waiter, lacks: Mapping[str, int]) -> bool:
        """Whether there is enough memory once all others that can sleep do."""
        most: Counter[str] = Counter()
        for name in self._ledger.owners - {waiter.owner, *waiter.failed}:
            if name in self._tenants:
                most.update(freed(self._ledger.of(name), 2))
        return all(most[device] >= lack for device, lack in lacks.items() if lack > 0)

    def _is_spare(self, waiter: _Waiter) -> bool:
        """Whether its model serves already: this is for one more of its instances."""
        held = self._ledger.of(waiter.owner)
        return any(each.key != waiter.key and not each.asleep for each in held)

    def _options(self, owner: str, now: float, failed: Collection[str]) -> Options:
        """Who could sleep for `owner` at `now`; `math.inf` is when all have had their time."""
        options = Options(now, self._limits.quantum, self._limits.least)
        for name in sorted(self._ledger.owners - {owner, *failed, *self._evicting}):
            tenant, held = self._tenants.get(name), self._ledger.of(name)
            if tenant is not None:
                options.add(tenant, held)
        return options

    # ------------------------------------------------------------ evictions

    async def _evict(self, waiter: _Waiter, candidate: Candidate, level: SleepLevel) -> None:
        """Put one model to sleep. Whatever prevents it is noted in `waiter.failed`."""
        name = candidate.name
        tenant, lacks = self._tenants[name], self._lacks(waiter)
        self._evicting.add(name)
        try:
            await tenant.pause()
            if not await self._drained(waiter, tenant):
                return
            level = level if self._prepared(name, level) else 2
            before = freed(self._ledger.of(name), 2)
            await _to_its_end(tenant.sleep(level))
            if freed(self._ledger.of(name), 2) == before:
                waiter.failed[name] = "gave nothing back"
            else:
                self._report(waiter, _eviction(candidate, level, lacks))
        except Exception as error:
            waiter.failed[name] = "could not be put to sleep"
            told(error, _log, f"{name} could not be put to sleep")
        finally:
            self._evicting.discard(name)
            for held in self._ledger.of(name):
                held.cancel_sleep()
            tenant.resume()
            self.changed()

    def _prepared(self, name: str, level: SleepLevel) -> bool:
        """Whether the host has room for what `level` brings there; it may have gone by now."""
        return level == 2 or all(held.prepare_sleep() for held in self._ledger.of(name))

    async def _drained(self, waiter: _Waiter, tenant: Tenant) -> bool:
        """Wait until nothing of `tenant` runs. False: it took too long, or is no longer needed."""
        until = self._clock.now() + self._limits.drain
        while tenant.in_flight:
            if not short(self._lacks(waiter)):
                return False
            if self._clock.now() >= until:
                waiter.failed[tenant.name] = f"did not end its work in {self._limits.drain:g} s"
                return False
            waiter.news.clear()
            await self._clock.wait(waiter.news, until)
        return True

    def _report(self, waiter: _Waiter, eviction: Eviction) -> None:
        _log.info(
            "%s sleeps at level %d to make room for %s (%s): %s",
            eviction.owner,
            eviction.level,
            waiter.owner,
            human_bytes(eviction.num_bytes),
            eviction.why,
        )
        self._on_evict(eviction)

    # ------------------------------------------------------------ refusals

    def _refused(self, waiter: _Waiter, lacks: Mapping[str, int]) -> StartError:
        return self._refusal(waiter.owner, waiter.device, waiter.need, lacks, waiter.failed)

    def _refusal(
        self,
        owner: str,
        device: str,
        need: Need,
        lacks: Mapping[str, int],
        failed: Mapping[str, str],
    ) -> StartError:
        at_fault = max(lacks, key=lambda name: lacks[name])
        wanted = need.total if at_fault == device else need.host
        budget, free = self._ledger.budget(at_fault), max(0, self._ledger.free(at_fault))
        if wanted > budget:
            why, excess = f"the whole budget is {human_bytes(budget)}", wanted - budget
        else:
            others = "".join(f"; {name} {reason}" for name, reason in failed.items())
            why, excess = f"{human_bytes(free)} are free{others}", wanted - free
        return StartError(
            "out_of_memory",
            f"{owner} needs {human_bytes(wanted)} of memory ({at_fault}), and {why}",
            hint=smallest_change(need, excess, at_fault, budget),
            bytes_needed=wanted,
            bytes_free=free,
        )


def smallest_change(need: Need, excess: int, device: str, budget: int) -> str:
    """The option that would make `need` smaller by `excess` bytes, or the budget large enough."""
    if excess < need.kv_cache // 2:
        return f"--kv-cache-bytes {need.kv_cache - excess}"
    if excess <= need.adapters:
        return "--max-adapters 0"
    if device == HOST:
        return f"--memory-budget {budget + excess}"
    return "Choose a smaller model, or --dtype bfloat16"


def _eviction(candidate: Candidate, level: SleepLevel, lacks: Mapping[str, int]) -> Eviction:
    device = max(lacks, key=lambda name: lacks[name])
    gain = candidate.light if level == 1 else candidate.full
    return Eviction(candidate.name, level, gain.get(device, 0), candidate.why)


async def _to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Await `work`; a cancellation waits until it is done, since halves of it would be worse."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
