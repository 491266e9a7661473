"""Sleeping when idle, waking on demand, for one and for many requests."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import cast

import anyio
import pytest

from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine
from inferd.errors import EngineError, Unavailable
from inferd.messages import SleepLevel, Submit
from inferd.replicas.instances import Instances
from inferd.replicas.scaling import Limits
from tests.replicas.replicas_under_test import GREEDY, Site, adapter, answer, brought, settle

pytestmark = pytest.mark.anyio

SLEEPY = Limits(idle_s=10.0, deep_s=20.0, tick_s=3600.0)


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
def level(request: pytest.FixtureRequest) -> SleepLevel:
    return cast(SleepLevel, request.param)


async def test_a_request_wakes_it(site: Site, level: SleepLevel) -> None:
    replicas = await site.start()
    await replicas.sleep(level)
    assert replicas.state == "asleep"
    assert replicas.instances == Instances(0, 0, 1)
    assert site.reserved() == (100 if level == 1 else 0)
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150
    assert replicas.instances == Instances(1, 0, 0)


async def test_sleeps_when_idle_ever_deeper(site: Site) -> None:
    replicas = await site.start(minimum=0, limits=SLEEPY)
    reserved: list[int] = []
    for _ in range(6):
        await replicas.tend()
        reserved.append(site.reserved())
        site.clock.now += 8.0
    assert reserved == [150, 150, 100, 100, 0, 0]
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150
    site.clock.now += 9.0
    await replicas.tend()
    assert replicas.state == "ready"


async def test_stays_awake_where_an_instance_must_stay(site: Site) -> None:
    replicas = await site.start(minimum=1, limits=SLEEPY)
    site.clock.now += 1e6
    await replicas.tend()
    assert replicas.state == "ready"


async def test_many_requests_wake_it_once(site: Site, level: SleepLevel) -> None:
    replicas = await site.start("load_bytes=100,wake_delay=0.05")
    await replicas.sleep(level)
    answers: list[str] = []

    async def one(name: str) -> None:
        answers.append(await answer(replicas, name))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(one, str(number))
    assert answers == ["abc"] * 50
    assert len(site.engines) == 1
    assert replicas.instances == Instances(1, 0, 0)
    assert site.reserved() == 150


async def test_who_leaves_while_it_wakes_leaves_the_others_waiting(site: Site) -> None:
    replicas = await site.start("wake_delay=0.1")
    await replicas.sleep(1)
    leaves = asyncio.create_task(answer(replicas, "leaves"))
    stays = asyncio.create_task(answer(replicas, "stays"))
    await settle(lambda: replicas.instances.pending == 1)
    leaves.cancel()
    assert await stays == "abc"
    assert leaves.cancelled()
    assert replicas.in_flight == 0


async def test_waits_only_so_long(site: Site) -> None:
    limits = Limits(wake_s=0.02, tick_s=3600.0)
    replicas = await site.start("wake_delay=0.2", limits=limits)
    await replicas.sleep(1)
    with pytest.raises(Unavailable, match="waking") as caught:
        await answer(replicas)
    assert caught.value.retry_after == 10.0
    await brought(replicas, 1)
    assert await answer(replicas) == "abc"


async def test_closing_while_it_wakes(site: Site, level: SleepLevel) -> None:
    replicas = await site.start("load_bytes=100,load_delay=0.02,wake_delay=0.05")
    await replicas.sleep(level)
    waiters = [asyncio.create_task(answer(replicas, str(n))) for n in range(3)]
    await settle(lambda: replicas.instances.pending == 1)
    await asyncio.sleep(0)
    await replicas.close()
    for waiter in waiters:
        with pytest.raises(Unavailable, match="closed"):
            await waiter
    assert site.reserved() == 0


async def test_a_wake_that_fails_is_told_to_all_who_wait(site: Site) -> None:
    replicas = await site.start("load_bytes=100")
    await replicas.sleep(2)
    site.engines[0]._spec = EngineSpec(engine="echo", model="echo:start=fail")
    waiters = [asyncio.create_task(answer(replicas, str(n))) for n in range(3)]
    for waiter in waiters:
        with pytest.raises(Unavailable, match="start=fail") as caught:
            await waiter
        assert "could not be started: The weights need" in caught.value.message
    assert site.reserved() == 0
    assert replicas.state == "asleep"
    with pytest.raises(Unavailable):  # not tried again so soon
        await answer(replicas)
    assert len(site.engines) == 1
    site.clock.now += 10.0
    assert await answer(replicas) == "abc"
    assert len(site.engines) == 2


async def test_one_that_never_wakes_has_failed_in_the_end(site: Site) -> None:
    torn = EngineSpec(engine="echo", model="echo:delai=1")
    replicas = await site.start(make=lambda spec: site.on_thread(torn if site.engines else spec))
    site.engines[0]._spec = torn
    await replicas.sleep(2)
    states: list[str] = []
    for _ in range(7):
        with pytest.raises(Unavailable):
            await answer(replicas)
        states.append(replicas.state)
        site.clock.now += 1000.0
    assert states == ["asleep"] * 5 + ["failed"] * 2


async def test_one_that_died_asleep_is_not_missed(site: Site) -> None:
    hosts: list[HostEngine] = []

    def make(spec: EngineSpec) -> HostEngine:
        hosts.append(HostEngine(spec))
        return hosts[-1]

    replicas = await site.start(make=make)
    await replicas.sleep(1)
    assert site.reserved() == 100
    assert hosts[0].pid is not None
    os.kill(hosts[0].pid, signal.SIGKILL)
    await settle(lambda: hosts[0].pid is None)
    await replicas.tend()
    assert site.reserved() == 0
    assert replicas.state == "asleep"
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150


async def test_does_not_sleep_under_a_request(site: Site, level: SleepLevel) -> None:
    replicas = await site.start("delay=0.001")
    async with replicas.stream(Submit("a", (1,), 50, GREEDY)):
        with pytest.raises(EngineError, match="1 requests run"):
            await replicas.sleep(level)
        assert replicas.state == "ready"
        assert await answer(replicas, "b") == "abc"


async def test_requests_that_come_as_it_falls_asleep_wake_it_again(
    site: Site, level: SleepLevel
) -> None:
    replicas = await site.start("sleep_delay=0.05")
    sleeping = asyncio.create_task(replicas.sleep(level))
    await asyncio.sleep(0)
    assert await answer(replicas) == "abc"
    await sleeping


async def test_wakes_one_of_many_and_the_rest_when_they_are_needed(site: Site) -> None:
    replicas = await site.start(minimum=3, maximum=3)
    for count in (2, 3):
        await replicas.tend()
        await brought(replicas, count)
    await replicas.sleep(1)
    assert replicas.instances == Instances(0, 0, 3)
    await replicas.tend()
    assert replicas.instances == Instances(0, 0, 3)  # nobody asked yet
    assert await answer(replicas) == "abc"
    assert replicas.instances == Instances(1, 0, 2)
    await replicas.tend()
    await brought(replicas, 2)
    assert len(site.engines) == 3


async def test_wakes_without_a_request(site: Site, level: SleepLevel) -> None:
    replicas = await site.start("load_bytes=100")
    memory = await replicas.sleep(level)
    assert memory.weights == (100 if level == 1 else 0)
    assert (await replicas.wake()).weights == 100
    assert replicas.state == "ready"


async def test_paused_it_lets_nobody_in_and_what_runs_goes_on(site: Site) -> None:
    replicas = await site.start("delay=0.001")
    async with replicas.stream(Submit("a", (1,), 1000, GREEDY)) as events:
        await replicas.pause()
        waiter = asyncio.create_task(answer(replicas, "b"))
        for _ in range(20):
            await anext(events)
        assert not waiter.done()
        assert replicas.in_flight == 1
        replicas.resume()
        assert await waiter == "abc"


async def test_adapters_survive_any_sleep(site: Site, level: SleepLevel, tmp_path: object) -> None:
    replicas = await site.start()
    await replicas.load_adapter(adapter(tmp_path, "one"))  # type: ignore[arg-type]
    await replicas.sleep(level)
    assert await answer(replicas, adapter="one") == "one"
