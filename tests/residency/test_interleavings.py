"""Any interleaving of requests, departures, failures and time leaves the account in order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.errors import StartError
from inferd.ledger import Need
from inferd.residency import Limits
from tests.residency.machine import Machine, Model, settle

BUDGETS = {"cpu": 30, "cuda:0": 20}
LIMITS = Limits(quantum=10, least=2, drain=20, wait=100)
NEEDS = (  # two of the host's models fit, of the device's one and a half; the last one never
    ("a", "cpu", Need(weights=6, kv_cache=4, process=1)),
    ("b", "cpu", Need(weights=9, kv_cache=2, workspace=1, process=1)),
    ("c", "cpu", Need(weights=14, kv_cache=3, adapters=2)),
    ("d", "cuda:0", Need(weights=8, kv_cache=4, process=1, host=2)),
    ("e", "cuda:0", Need(weights=6, kv_cache=2, process=1, host=3)),
    ("never", "cpu", Need(weights=31)),
)

actions = st.lists(
    st.tuples(
        st.sampled_from(("open", "open", "open", "close", "cancel", "advance", "spare", "crash")),
        st.integers(0, 5),
        st.integers(0, 25),
    ),
    max_size=40,
)


class World:
    """Models whose requests end when told to, or when they have run for a while."""

    def __init__(self, limits: Limits) -> None:
        self.machine = Machine(BUDGETS, limits)
        self.models = [self.machine.model(name, need, device) for name, device, need in NEEDS]
        self.opening: list[tuple[Model, asyncio.Task[None]]] = []
        self.spares: list[asyncio.Task[None]] = []
        self.served = self.refused = self.left = 0

    def open(self, model: Model) -> None:
        self.opening.append((model, asyncio.ensure_future(model.open())))

    def close(self, model: Model) -> None:
        if model.in_flight:
            model.close()

    def cancel(self, which: int) -> None:
        if self.opening:
            self.opening[which % len(self.opening)][1].cancel()

    def crash(self, model: Model) -> None:
        """Its process ends: its requests fail and its memory returns."""
        if model.awake and model.reservation is not None:
            while model.in_flight:
                model.close()
            model.reservation.release()

    async def spare(self, model: Model) -> None:
        """One more instance, for a moment."""
        try:
            held = await self.machine.residency.acquire(model, "1", "cpu", Need(weights=5))
        except StartError:
            return
        await asyncio.sleep(0)
        held.release()

    async def act(self, action: str, which: int, amount: int) -> None:
        model = self.models[which]
        acts: dict[str, Callable[[], None]] = {
            "open": lambda: self.open(model),
            "close": lambda: self.close(model),
            "cancel": lambda: self.cancel(which),
            "crash": lambda: self.crash(model),
            "spare": lambda: self.spares.append(asyncio.ensure_future(self.spare(model))),
        }
        if action == "advance":
            await self.machine.clock.advance(amount)
        else:
            acts[action]()
        for _ in range(amount % 4):  # between any two steps of the others
            await asyncio.sleep(0)
        self.check()

    def check(self) -> None:
        self.machine.ledger.check()
        for device, budget in BUDGETS.items():
            assert 0 <= self.machine.ledger.reserved(device) <= budget
        for model, task in list(self.opening):
            if task.done():
                self.opening.remove((model, task))
                self._count(task)

    def _count(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.left += 1
        elif isinstance(task.exception(), StartError):
            self.refused += 1
        else:
            task.result()
            self.served += 1

    async def end(self) -> None:
        """Let all requests end: then everyone must have had an answer."""
        for _ in range(200):
            await settle()
            self.check()
            for model in self.models:
                while model.in_flight:
                    model.close()
            if not self.opening and all(task.done() for task in self.spares):
                break
            await self.machine.clock.advance(5)
        assert not self.opening, "somebody waits for ever"
        await settle()


async def play(steps: list[tuple[str, int, int]], limits: Limits = LIMITS) -> World:
    world = World(limits)
    opened = 0
    for action, which, amount in steps:
        opened += action == "open"
        await world.act(action, which, amount)
    await world.end()
    assert opened == world.served + world.refused + world.left
    world.machine.residency.check()
    for model in world.models:
        if model.reservation is not None:
            model.reservation.release()
    assert all(world.machine.ledger.reserved(device) == 0 for device in BUDGETS), "a leak"
    assert world.machine.ledger.owners == set()
    world.machine.residency.check()
    return world


@settings(max_examples=150, deadline=None)
@given(actions)
def test_any_interleaving_stays_within_the_budget_and_serves_or_refuses_all(
    steps: list[tuple[str, int, int]],
) -> None:
    asyncio.run(play(steps))


@pytest.mark.parametrize("seed", range(5))
def test_traffic_on_more_models_than_fit_is_all_served(seed: int) -> None:
    random = Random(seed)
    steps = [
        (random.choice(("open", "open", "close", "advance")), random.randrange(5), 3)
        for _ in range(300)
    ]
    patient = Limits(quantum=10, least=2, drain=math.inf, wait=math.inf)
    world = asyncio.run(play(steps, patient))
    assert world.refused == 0
    assert world.served == sum(action == "open" for action, _, _ in steps)
    assert len(world.machine.evictions) > 5
