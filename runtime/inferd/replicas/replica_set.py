"""One model in as many replicas as its load asks for; itself an engine, and a tenant of memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from inferd.engines.base import Engine, EngineSpec, EngineState, Events, Progress
from inferd.engines.host import HostEngine
from inferd.errors import StartError, Unavailable
from inferd.ledger import HOST, Need
from inferd.messages import (
    AdapterInfo,
    EngineInfo,
    EngineStats,
    LoadAdapter,
    MemoryUse,
    SleepLevel,
    Submit,
)
from inferd.replicas.adapters import Adapters
from inferd.replicas.failures import Failures
from inferd.replicas.instances import Instances
from inferd.replicas.members import Members
from inferd.replicas.replica import Replica, sum_memory
from inferd.replicas.routing import choose, marks_of
from inferd.replicas.scaling import Limits, Load, Scaler
from inferd.residency import Room

_log = logging.getLogger("inferd.replicas")

_SLACK = 0.125  # of a batch: so much busier may a replica be that knows the prompt


class ReplicaSet:
    """An `Engine` over others, and a `Tenant` of `room`.

    With `min_instances=0` it sleeps when it was idle for long. However it came to sleep, a
    request wakes it. At least one instance is started at first, whatever the minimum.

    Args:
        name: the tenant's.
        devices: alike; a replica is on one of them.
        need: what one replica takes of its device.
        make: builds an engine; not started.
        clock: seconds, monotonic, the same as the room's.
    """

    def __init__(
        self,
        spec: EngineSpec,
        room: Room,
        *,
        name: str,
        need: Need,
        devices: Sequence[str] = (HOST,),
        min_instances: int = 1,
        max_instances: int = 1,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        make: Callable[[EngineSpec], Engine] = HostEngine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._limits = limits
        self._clock = clock
        self._room = room
        self._block_size = spec.block_size
        self._batch = spec.max_batch_size
        self._slack = spec.max_batch_size * _SLACK
        self._members = Members(spec, self, room, devices, need, make, self._brought, self._died)
        self._scaler = Scaler(limits, min_instances, max_instances)
        self._adapters = Adapters(self._members.adapters)
        self._running: dict[str, Replica] = {}  # by request id
        self.num_open = 0  # streams that have a reader, ended or not
        self._working = 0  # streams that have not ended, and loads of adapters
        self._waiting = 0  # for a replica
        self._paused = False
        self._closed = False
        self._failures = Failures(limits, clock)
        self._change: asyncio.Future[None] | None = None  # done at the next change
        self._ticker: asyncio.Task[None] | None = None
        self._last_used = self._resident_since = clock()

    # ------------------------------------------------------------ as a tenant, and for operators

    @property
    def instances(self) -> Instances:
        members = self._members
        return Instances(len(members.usable), members.num_pending, members.count("asleep"))

    @property
    def in_flight(self) -> int:
        """What runs, and what is about to: a start or wake that has its room, and requests that
        found a replica. Those that wait for room or for `resume` do not count."""
        about_to = self._waiting if self._members.usable and not self._paused else 0
        return self._working + self._members.has_room + about_to

    @property
    def last_used(self) -> float:
        """When a stream was last asked for or ended, on the clock."""
        return self._last_used

    @property
    def resident_since(self) -> float:
        """When it last became able to serve, on the clock: now, while it starts or wakes."""
        return self._clock() if self._members.has_room else self._resident_since

    @property
    def need(self) -> Need:
        """Of one replica: as estimated, and as measured once one has started."""
        return self._members.need

    @property
    def reason(self) -> StartError | None:
        """Why a replica last failed to start; None if none did."""
        return self._failures.reason

    def set_limits(self, min_instances: int, max_instances: int) -> None:
        """Have so many replicas from the next look at the load on."""
        self._scaler.minimum, self._scaler.maximum = min_instances, max_instances

    async def pause(self) -> None:
        """New streams wait from now on; those that run go on."""
        self._paused = True

    def resume(self) -> None:
        """Those that wait go on, and wake a replica where none is awake."""
        self._paused = False
        self._changed()

    # ------------------------------------------------------------ as an engine

    @property
    def state(self) -> EngineState:
        members = self._members
        if self._closed:
            return "closed"
        if members.usable:
            return "ready"
        if members.info is None:
            return "failed" if self._failures.reason else "starting"
        if awake := [each for each in members.all if each.state in ("ready", "draining")]:
            return awake[0].engine.state
        return "failed" if self._failures.final else "asleep"

    @property
    def info(self) -> EngineInfo:
        """Of the first replica that started; the others are like it."""
        if self._members.info is None:
            raise Unavailable("The model is starting")
        return self._members.info

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        """Start one replica; more follow as `min_instances` and the load ask for them."""
        self._members.on_progress = on_progress
        bringing = self._members.bring_one()
        try:
            await asyncio.wait({bringing})
        except asyncio.CancelledError:
            bringing.cancel()
            await asyncio.wait({bringing})
            raise
        if bringing.cancelled():
            raise StartError("crashed", "The model was stopped while it started")
        if (error := bringing.result()) is not None:
            raise error
        self._members.on_progress = lambda progress: None
        self._last_used = self._clock()
        self._ticker = asyncio.create_task(self._tick(), name=f"replicas-{self.name}")
        return self.info

    @asynccontextmanager
    async def stream(self, submit: Submit) -> AsyncIterator[Events]:
        """See `Engine`. Entering waits while all replicas sleep, and while it is paused. What has
        ended is no work, though its reader be slow: others may wait for the model's memory."""
        request_id = submit.request_id
        replica = self._route(await self._available(submit.adapter), submit)
        taken = self._running.get(request_id)
        if taken is None:
            self._running[request_id] = replica
        replica = taken or replica  # the one that has this id refuses it
        with ExitStack() as work:
            work.enter_context(self._work(replica))
            self.num_open += 1
            try:
                async with replica.engine.stream(submit) as events:
                    events.when_over(work.close)
                    yield events
            finally:
                self.num_open -= 1
                if taken is None:
                    del self._running[request_id]

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        """See `Engine`: every replica holds it, those that come later as well."""
        async with self._adapters.turn(load.adapter):
            if (known := self._adapters.find(load.adapter)) is not None:
                return known
            replicas = await self._available()
            with ExitStack() as stack:
                for replica in replicas:
                    stack.enter_context(self._work(replica))
                return await self._adapters.load(replicas, load)

    async def drop_adapter(self, adapter: str) -> None:
        async with self._adapters.turn(adapter):
            await self._adapters.drop(self._members.all, adapter)

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        """See `Engine`. What is left is all replicas' together."""
        return await self._members.sleep(level)

    async def wake(self) -> MemoryUse:
        await self._available()
        return (await self.stats()).memory

    async def stats(self) -> EngineStats:
        """Of all that are awake, together."""
        awake = [each.engine for each in self._members.all if each.state in ("ready", "draining")]
        return _sum(await asyncio.gather(*(engine.stats() for engine in awake)))

    async def close(self) -> None:
        self._closed = True
        self._changed()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait({self._ticker})
        await self._members.close()

    # ------------------------------------------------------------ a replica for a request

    async def _available(self, adapter: str = "") -> list[Replica]:
        """Those that can run a request with `adapter` now; at least one. Waits until there is one.

        Raises Unavailable: there is none in time, or none can be started.
        """
        self._admit()
        self._last_used = self._clock()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.wake_s):
                while not (found := await self._try_available(adapter)):
                    pass
            return found
        except TimeoutError:
            raise Unavailable("The model is waking up", retry_after=self._limits.retry_s) from None
        finally:
            self._waiting -= 1
            if not self._waiting and not self._members.usable:
                self._members.forgo()
            self._tell_if_idle()

    async def _try_available(self, adapter: str) -> list[Replica]:
        """One look, then, where it finds nothing, a wait for some change."""
        self._admit()
        members = self._members
        if self._paused:
            await asyncio.wait({self._next_change()})
            return []
        if usable := members.usable:
            if adapter not in members.adapters:
                return usable
            if holders := [
                each for each in usable if adapter in each.held or each.refuses(adapter)
            ]:
                return holders
            await members.hold(usable[0])
            return []
        if restarting := [each for each in members.all if each.state == "ready"]:
            return restarting  # they refuse it, and tell how long that may take
        await self._one_comes()
        return []

    async def _one_comes(self) -> None:
        """Until a start or a wake has ended, or something else has changed."""
        if not self._members.num_pending and not self._failures.may_retry:
            raise self._failures.told()
        bringing = self._members.bring_one()
        either: list[asyncio.Future[Any]] = [bringing, self._next_change()]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if bringing.done() and not bringing.cancelled() and bringing.result() is not None:
            raise self._failures.told()

    def _admit(self) -> None:
        """Raises Unavailable unless it was started and is not closed."""
        if self._closed or self._members.info is None:
            raise Unavailable(f"The model is {self.state}")

    def _route(self, candidates: list[Replica], submit: Submit) -> Replica:
        if len(candidates) == 1:
            return candidates[0]
        marks = marks_of(submit, self._block_size)
        chosen = candidates[choose(candidates, marks, submit.adapter, self._slack)]
        chosen.recent.note(marks, submit.adapter)
        return chosen

    @contextmanager
    def _work(self, replica: Replica) -> Iterator[None]:
        """Something runs on `replica`."""
        self._working += 1
        replica.in_flight += 1
        self._last_used = self._clock()
        try:
            yield
        finally:
            self._working -= 1
            replica.in_flight -= 1
            self._last_used = self._clock()
            self._tell_if_idle()

    # ------------------------------------------------------------ changes

    def _next_change(self) -> asyncio.Future[None]:
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def _changed(self) -> None:
        """Whoever waits looks again."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _brought(self, error: StartError | None) -> None:
        """A replica came up, or did not."""
        if error is not None:
            _log.error("a replica of %s did not start: %s", self.name, error)
            self._failures.note(error)
        else:
            self._failures.clear()
            if len(self._members.usable) == 1:
                self._resident_since = self._clock()
        self._changed()
        self._tell_if_idle()

    def _died(self, replica: Replica) -> None:
        """For good, after restarts of its own."""
        _log.error("replica %s of %s is given up", replica.key, self.name)
        error = StartError("crashed", "The model's process ended again and again")
        self._failures.note(error, final=True)
        self._changed()

    def _tell_if_idle(self) -> None:
        if not self.in_flight:
            self._room.changed()

    # ------------------------------------------------------------ with time

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._limits.tick_s)
            try:
                await self.tend()
            except Exception:
                _log.exception("looking after %s failed", self.name)

    async def tend(self) -> None:
        """Look at the load, and do about it what `scaling` says; called every `tick_s`."""
        await self._members.look_after()
        queued = (await self.stats()).waiting
        if self._closed or self._paused:
            return
        decision = self._scaler.decide(self._load(queued), self._clock())
        if decision == "up" and not self._members.spare_one() and self._failures.may_retry:
            self._members.bring_one()
        elif decision == "down":
            self._members.drain_one()
        elif decision in ("sleep", "sleep_deeply"):
            await self._members.fall_asleep(1 if decision == "sleep" else 2)
        self._changed()

    def _load(self, queued: int) -> Load:
        members, now = self._members, self._clock()
        return Load(
            ready=members.count("ready"),
            pending=members.num_pending,
            asleep=members.count("asleep"),
            in_flight=self.in_flight,
            queued=queued,
            batch=self._batch,
            idle_s=now - self._last_used,
        )


def _sum(stats: Sequence[EngineStats]) -> EngineStats:
    """Field by field."""
    fields = {
        name: sum(getattr(each, name) for each in stats)
        for name in EngineStats.__struct_fields__
        if name != "memory"
    }
    return EngineStats(**fields, memory=sum_memory(each.memory for each in stats))
