"""Whatever happens to several models in too little memory, the account is in order all the time,
nobody hangs, and once it is calm each model serves. Time is virtual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferd.engines import host
from inferd.errors import Unavailable
from inferd.ledger import HOST
from inferd.messages import Finish, Sampling, Submit
from inferd.replicas.replica_set import ReplicaSet
from tests.replicas.simulation.actors import Caller, Operator, answer, audit
from tests.replicas.simulation.clock import VirtualLoop, now
from tests.replicas.simulation.world import DRAIN_S, World

DURATION_S = 300.0
CALM_S = 400.0  # after which whatever was about to happen has


@pytest.mark.parametrize("device", [HOST, "cuda:0"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_each_model_serves_again(
    seed: int,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(simulate(seed, device, monkeypatch))
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def simulate(seed: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[dict[str, Any]] = []  # exceptions that nobody caught
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
    world = World(seed, device, DURATION_S)
    monkeypatch.setattr(host, "ChildProcess", world.children)
    num_callers = world.random.choice((3, 8))
    async with asyncio.TaskGroup() as group:
        for number in range(num_callers):
            group.create_task(Caller(world, f"caller{number}").run())
        for _ in range(2):
            group.create_task(Operator(world).run())
        group.create_task(audit(world))
    await calm_down(world)
    for replicas in world.sets.values():
        await until_served(replicas)
    for replicas in world.sets.values():
        await nobody_waits_for_its_reader(world, replicas)
    for name in world.names:
        await world.close(name)
    world.check_empty()
    assert world.seen["Finish"] > 10, world.seen
    assert world.children.wrongs == []
    assert lost == []


async def calm_down(world: World) -> None:
    """No more faults, and nothing asked: in the end nothing is under way."""
    world.children.habits = world.children.habits.faultless()
    for name in world.names:
        await world.start(name)
    for replicas in world.sets.values():
        replicas.set_limits(0, 1)
    await asyncio.sleep(CALM_S)
    world.room.check()
    world.check()
    assert [each.name for each in world.sets.values() if each.in_flight or each.num_open] == []


async def until_served(replicas: ReplicaSet) -> None:
    """What failed often is tried again ever later, but is tried."""
    for attempt in range(10):
        try:
            assert isinstance(await answer(replicas, f"again{attempt}"), Finish)
            return
        except Unavailable:
            await asyncio.sleep(60.0)
    raise AssertionError(f"{replicas.name} never serves again: {replicas.reason}")


async def nobody_waits_for_its_reader(world: World, replicas: ReplicaSet) -> None:
    """Its answer is ready, but not read yet: no reason to keep its memory from the others."""
    others = [each for each in world.sets.values() if each is not replicas]
    async with replicas.stream(Submit("slow", (1,), 3, Sampling())) as stream:
        for other in others:
            began = now()
            assert isinstance(await answer(other, "quick"), Finish)
            assert now() - began < DRAIN_S
        assert isinstance([event async for event in stream][-1], Finish)
