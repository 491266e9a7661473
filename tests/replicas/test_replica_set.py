"""A model in several replicas: starting, growing, shrinking, ending."""

from __future__ import annotations

import asyncio
import os
import signal

import anyio
import pytest
from msgspec.structs import replace

from inferd.engines.base import Engine, EngineSpec, is_terminal
from inferd.engines.host import HostEngine
from inferd.engines.process import Limits as ProcessLimits
from inferd.errors import StartError, Unavailable
from inferd.messages import Event, Fail, Finish, Submit, Tokens
from inferd.replicas.instances import Instances
from inferd.replicas.scaling import Limits
from tests.replicas.replicas_under_test import GREEDY, Site, answer, brought, collect, settle

pytestmark = pytest.mark.anyio

EAGER = Limits(up_s=0.0, down_s=0.0, tick_s=3600.0)


async def test_starts_one_and_serves(site: Site) -> None:
    replicas = await site.start()
    assert replicas.state == "ready"
    assert replicas.instances == Instances(running=1, pending=0, asleep=0)
    assert replicas.info.engine == "echo"
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150


async def test_a_start_that_fails_gives_everything_back(site: Site) -> None:
    replicas = site.make("start=fail")
    with pytest.raises(StartError, match="start=fail"):
        await replicas.start(lambda progress: None)
    assert replicas.state == "failed"
    assert replicas.reason is not None
    assert site.reserved() == 0
    with pytest.raises(Unavailable):
        await answer(replicas)


async def test_a_start_for_which_there_is_no_room_is_refused() -> None:
    site = Site(budget=149)
    replicas = site.make()
    with pytest.raises(StartError) as caught:
        await replicas.start(lambda progress: None)
    assert caught.value.code == "out_of_memory"
    assert replicas.state == "failed"
    assert site.engines[0].state == "closed"
    await site.close()


async def test_is_not_available_before_it_started(site: Site) -> None:
    replicas = site.make()
    assert replicas.state == "starting"
    with pytest.raises(Unavailable, match="starting"):
        await answer(replicas)
    with pytest.raises(Unavailable):
        _ = replicas.info


async def test_cancelling_a_start_gives_everything_back(site: Site) -> None:
    replicas = site.make("load_bytes=100,load_delay=0.02")
    starting = asyncio.create_task(replicas.start(lambda progress: None))
    await settle(lambda: site.reserved() > 0)
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert site.reserved() == 0


async def test_grows_with_its_minimum(site: Site) -> None:
    replicas = await site.start(maximum=3)
    replicas.set_limits(3, 3)
    for count in (2, 3):
        await replicas.tend()
        await brought(replicas, count)
    await replicas.tend()
    assert replicas.instances == Instances(3, 0, 0)
    assert site.reserved() == 450
    assert [holding.key for holding in site.ledger.snapshot().devices[0].holdings] == list("012")


async def test_instances_are_spread_over_devices(site: Site) -> None:
    specs: list[EngineSpec] = []

    def make(spec: EngineSpec) -> Engine:
        specs.append(spec)
        return site.on_thread(spec)

    devices = ("cuda:1", "cuda:0")
    replicas = await site.start(minimum=3, maximum=3, devices=devices, make=make)
    for count in (2, 3):
        await replicas.tend()
        await brought(replicas, count)
    assert [spec.device for spec in specs] == ["cuda:1", "cuda:0", "cuda:1"]
    assert [site.ledger.reserved(device) for device in devices] == [300, 150]
    assert site.reserved() == 0


async def test_grows_with_its_queue_and_spreads_requests(site: Site) -> None:
    replicas = await site.start("delay=0.001", maximum=2, limits=EAGER, max_batch_size=1)
    ends: list[Event] = []

    async def one(name: str) -> None:
        ends.append((await collect(replicas, Submit(name, (1, 2), 100, GREEDY)))[-1])

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(one, str(number))
        while replicas.instances.pending + replicas.instances.running < 2:
            await replicas.tend()
        await brought(replicas, 2)
        for number in range(4, 10):
            group.start_soon(one, str(number))
        await settle(lambda: replicas.in_flight == 10)
        assert (await replicas.stats()).running == 2
    assert [type(end) for end in ends] == [Finish] * 10


async def test_shrinks_without_hurting_what_runs(site: Site) -> None:
    replicas = await site.start("delay=0.001", minimum=2, maximum=2, limits=EAGER)
    await replicas.tend()
    await brought(replicas, 2)
    async with (
        replicas.stream(Submit("a", (1,), 200, GREEDY)) as first,
        replicas.stream(Submit("b", (2,), 200, GREEDY)) as second,
    ):
        replicas.set_limits(1, 1)
        await replicas.tend()
        assert replicas.instances.running == 1
        assert await answer(replicas, "c") == "abc"
        await replicas.tend()
        for events in (first, second):
            assert isinstance([event async for event in events][-1], Finish)
    assert site.reserved() == 300  # no look at the load since
    await replicas.tend()
    assert site.reserved() == 150
    assert [engine.state for engine in site.engines] == ["ready", "closed"]


async def test_one_that_drains_is_taken_back_when_it_is_needed(site: Site) -> None:
    replicas = await site.start("delay=0.001", minimum=2, maximum=2, limits=EAGER)
    await replicas.tend()
    await brought(replicas, 2)
    async with (
        replicas.stream(Submit("a", (1,), 100, GREEDY)),
        replicas.stream(Submit("b", (2,), 100, GREEDY)),
    ):
        replicas.set_limits(1, 1)
        await replicas.tend()
        replicas.set_limits(2, 2)
        await replicas.tend()
        assert replicas.instances == Instances(2, 0, 0)
    assert len(site.engines) == 2


async def test_an_id_in_use_is_refused_whichever_replica_has_it(site: Site) -> None:
    replicas = await site.start("delay=0.001", minimum=2, maximum=2)
    await replicas.tend()
    await brought(replicas, 2)
    async with replicas.stream(Submit("same", (1, 2), 100, GREEDY)) as events:
        for _ in range(2):
            [refusal] = await collect(replicas, Submit("same", (1, 2), 5, GREEDY))
            assert isinstance(refusal, Fail)
            assert refusal.code == "invalid"
        rest = [event async for event in events]
    assert isinstance(rest[-1], Finish)
    assert [is_terminal(event) for event in rest].count(True) == 1


async def test_a_replica_that_does_not_start_leaves_the_others_alone(site: Site) -> None:
    made: list[EngineSpec] = []

    def make(spec: EngineSpec) -> Engine:
        made.append(spec)
        torn = replace(spec, model="echo:start=fail")
        return site.on_thread(spec if len(made) == 1 else torn)

    replicas = await site.start(minimum=2, maximum=2, make=make)
    await replicas.tend()
    await settle(lambda: replicas.instances.pending == 0)
    assert len(made) == 2
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150
    await replicas.tend()
    assert len(made) == 2  # not again so soon
    site.clock.now += 10.0
    await replicas.tend()
    assert replicas.instances.pending == 1
    await settle(lambda: replicas.instances.pending == 0)
    site.clock.now += 19.0
    await replicas.tend()
    assert len(made) == 3


async def test_closing_ends_every_stream_and_every_waiter(site: Site) -> None:
    replicas = await site.start("delay=0.001", minimum=2, maximum=2)
    await replicas.tend()
    await brought(replicas, 2)
    async with (
        replicas.stream(Submit("a", (1,), 1000, GREEDY)) as first,
        replicas.stream(Submit("b", (2,), 1000, GREEDY)) as second,
    ):
        await replicas.pause()
        waiter = asyncio.create_task(answer(replicas, "c"))
        await asyncio.sleep(0)
        await replicas.close()
        for events in (first, second):
            last = [event async for event in events][-1]
            assert isinstance(last, Fail)
            assert last.code == "dead"
        with pytest.raises(Unavailable, match="closed"):
            await waiter
    assert replicas.state == "closed"
    assert site.reserved() == 0


async def test_stats_are_of_all_together(site: Site) -> None:
    replicas = await site.start("delay=0.001,load_bytes=70", minimum=2, maximum=2)
    await replicas.tend()
    await brought(replicas, 2)
    async with (
        replicas.stream(Submit("a", (1,), 100, GREEDY)) as first,
        replicas.stream(Submit("b", (1,), 100, GREEDY)) as second,
    ):
        assert isinstance(await anext(first), Tokens)
        assert isinstance(await anext(second), Tokens)
        stats = await replicas.stats()
    assert stats.running == 2
    assert stats.memory.weights == 140


async def test_one_process_dies_and_the_other_serves(site: Site) -> None:
    hosts: list[HostEngine] = []

    def make(spec: EngineSpec) -> HostEngine:
        hosts.append(HostEngine(spec, limits=ProcessLimits(pulse_s=0.05, backoff_s=0.05)))
        return hosts[-1]

    replicas = await site.start("delay=0.001", minimum=2, maximum=2, make=make)
    await replicas.tend()
    await brought(replicas, 2)
    async with (
        replicas.stream(Submit("a", (1,), 1000, GREEDY)) as first,
        replicas.stream(Submit("b", (2,), 1000, GREEDY)) as second,
    ):
        assert hosts[0].pid is not None
        os.kill(hosts[0].pid, signal.SIGKILL)
        last = [event async for event in first][-1]
        assert isinstance(last, Fail)
        assert last.code == "dead"
        for number in range(5):
            assert await answer(replicas, str(number)) == "abc"
        assert isinstance([event async for event in second][-1], Finish)
    await brought(replicas, 2)
    assert len(hosts) == 2


async def test_one_that_dies_for_good_is_replaced(site: Site) -> None:
    replicas = await site.start("raise_token=7")
    [end] = await collect(replicas, Submit("a", (7,), 3, GREEDY))
    assert isinstance(end, Fail)
    assert end.code == "dead"
    assert replicas.state == "failed"
    with pytest.raises(Unavailable):
        await answer(replicas)
    await replicas.tend()
    assert site.reserved() == 0
    with pytest.raises(Unavailable, match="again and again"):
        await answer(replicas)
    site.clock.now += 10.0
    await replicas.tend()
    await brought(replicas, 1)
    assert await answer(replicas) == "abc"
