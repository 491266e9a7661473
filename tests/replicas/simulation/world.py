"""A machine with models in more need of memory than there is, as a seed has it."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine
from inferd.engines.process import Limits as ChildLimits
from inferd.errors import StartError
from inferd.ledger import HOST, Ledger, Need
from inferd.replicas.replica_set import ReplicaSet
from inferd.replicas.scaling import Limits
from inferd.residency import Limits as RoomLimits
from inferd.residency import Residency
from tests.replicas.simulation.children import BATCH, Children, Habits
from tests.replicas.simulation.clock import LoopClock, now

DRAIN_S = 60.0  # longer than any load, wake or quantum
PATIENCE_S = 900.0  # whatever takes longer than this hangs


class World:
    """Replica sets over fake children, in one account of memory. Make it inside a loop.

    Args:
        device: where the models are.
        duration: seconds, of random events.
    """

    def __init__(self, seed: int, device: str, duration: float) -> None:
        self.random = random = Random(f"{seed} {device}")
        self.device = device
        self.names = [f"m{number}" for number in range(random.choice((2, 2, 3, 4)))]
        self.needs = {name: _need(random, device) for name in self.names}
        self.children = Children(random, _habits(random), self.needs, device)
        largest = max(need.total for need in self.needs.values())
        budgets = {device: int(largest * random.choice((1.0, 1.2, 1.5, 2.2)))}
        if device != HOST:
            budgets[HOST] = random.choice((30, 60, 150, 1000))
        self.ledger = Ledger(budgets)
        self.room = Residency(self.ledger, limits=_room_limits(random), clock=LoopClock())
        self.limits = _limits(random)
        self.end = now() + duration
        self.sets: dict[str, ReplicaSet] = {}  # those that were started
        self.adapters: set[str] = set()  # loaded
        self.seen: Counter[str] = Counter()  # how requests, starts and operators' acts ended
        self._changing: set[str] = set()  # sets that start or close

    async def start(self, name: str) -> None:
        """Start it, unless it is being started or closed. Raises `StartError`."""
        if name in self.sets or name in self._changing:
            return
        self._changing.add(name)
        made = self._make(name)
        try:
            await made.start(lambda progress: None)
            self.sets[name] = made
        except StartError:
            await made.close()
            self._check_gone(name)
            raise
        finally:
            self._changing.discard(name)

    async def close(self, name: str) -> None:
        """Close it and its adapters: nothing of it is left."""
        closing = self.sets.pop(name)
        self._changing.add(name)
        self.adapters = {each for each in self.adapters if not each.startswith(name)}
        async with asyncio.timeout(PATIENCE_S):
            await closing.close()
        self._check_gone(name)
        self._changing.discard(name)

    def check(self) -> None:
        """Nobody holds more than is reserved, nor is more reserved than there is."""
        self.ledger.check()
        for device in self.ledger.devices:
            assert self.ledger.reserved(device) <= self.ledger.budget(device)
        held = self.children.held(self.device)
        phases = [(child.model, child.phase) for child in self.children.alive.values()]
        what = f"{phases} hold {held} B: {self.ledger.snapshot()}"
        assert held <= self.ledger.reserved(self.device), what

    def check_empty(self) -> None:
        """All was closed, and given back."""
        assert not self.sets
        assert not self.children.alive
        assert {device: self.ledger.reserved(device) for device in self.ledger.devices} == (
            dict.fromkeys(self.ledger.devices, 0)
        )
        self.room.check()

    def _check_gone(self, name: str) -> None:
        left = [(each.key, each.need) for each in self.ledger.of(name)]
        assert not left, f"{name} is closed and holds {left}"

    def _make(self, name: str) -> ReplicaSet:
        return ReplicaSet(
            EngineSpec(engine="native", model=name, max_batch_size=BATCH),
            self.room,
            name=name,
            need=self.needs[name],
            devices=(self.device,),
            min_instances=self.random.choice((0, 1, 1, 2)),
            max_instances=self.random.choice((1, 1, 2, 3)),
            limits=self.limits,
            make=lambda spec: HostEngine(spec, limits=ChildLimits(max_quick=2), clock=now),
            clock=now,
        )


def _need(random: Random, device: str) -> Need:
    return Need(
        weights=random.randint(20, 60),
        kv_cache=random.randint(20, 60),
        process=random.randint(5, 20),
        workspace=random.randint(0, 10),
        host=0 if device == HOST else random.randint(1, 15),
    )


def _habits(random: Random) -> Habits:
    """Most worlds have some faults, few have all."""
    return Habits(
        load_s=random.choice((0.5, 5.0, 30.0)),
        step_s=random.choice((0.02, 0.2)),
        sleep_s=random.choice((0.05, 2.0)),
        wake_s=random.choice((0.05, 3.0)),
        cannot_launch=random.choice((0.0, 0.0, 0.05)),
        cannot_start=random.choice((0.0, 0.0, 0.1, 0.4)),
        dies=random.choice((0.0, 0.0, 0.0, 0.002)),
        refuses=random.choice((0.0, 0.02)),
        cannot_load=random.choice((0.0, 0.1)),
    )


def _room_limits(random: Random) -> RoomLimits:
    return RoomLimits(
        quantum=random.choice((2.0, 10.0)),
        least=random.choice((0.5, 2.0)),
        drain=DRAIN_S,
        wait=random.choice((60.0, 300.0)),
    )


def _limits(random: Random) -> Limits:
    return Limits(
        idle_s=random.choice((1.0, 5.0, 300.0)),
        deep_s=random.choice((2.0, 1800.0)),
        up_s=random.choice((1.0, 5.0)),
        down_s=random.choice((2.0, 60.0)),
        tick_s=random.choice((0.3, 1.0)),
        wake_s=random.choice((60.0, 120.0)),
    )
