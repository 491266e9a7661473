"""Several models in less memory than they need: each is served, none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from inferd.messages import Fail, Finish, Submit
from inferd.replicas.replica_set import ReplicaSet
from inferd.residency import Limits
from tests.replicas.replicas_under_test import GREEDY, Site, adapter, answer, collect, settle

pytestmark = pytest.mark.anyio

NAMES = ("one", "two", "three")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Room for one and a half of the models."""
    site = Site(225, Limits(quantum=0.02, least=0.0, drain=10.0, wait=30.0))
    with anyio.fail_after(60):
        yield site
        await site.close()


async def models(site: Site, options: str = "load_bytes=100,delay=0.001") -> list[ReplicaSet]:
    return [await site.start(options, name=name) for name in NAMES]


async def test_a_model_that_is_asked_for_displaces_an_idle_one(site: Site) -> None:
    one, two, three = await models(site)
    assert [each.state for each in (one, two, three)] == ["asleep", "asleep", "ready"]
    assert await answer(one) == "abc"
    assert [each.state for each in (one, two, three)] == ["ready", "asleep", "asleep"]
    assert site.reserved() <= 225
    assert {eviction.owner for eviction in site.evictions} == set(NAMES)


async def test_a_busy_model_ends_its_work_before_it_goes(site: Site) -> None:
    one, _, three = await models(site)
    async with three.stream(Submit("long", (1,), 100, GREEDY)) as events:
        assert not isinstance(await anext(events), Fail)
        waiter = asyncio.create_task(answer(one))
        rest = [event async for event in events]
    assert isinstance(rest[-1], Finish)
    assert await waiter == "abc"
    assert three.state == "asleep"


async def test_requests_to_all_at_once_are_all_served(site: Site, tmp_path: Path) -> None:
    every = await models(site)
    for replicas in every:
        await replicas.load_adapter(adapter(tmp_path, replicas.name))
    answers: list[tuple[str, str]] = []

    async def one(number: int) -> None:
        replicas = every[number % 3]
        name = replicas.name if number % 2 else ""
        answers.append((name, await answer(replicas, str(number), adapter=name, count=5)))

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(one, number)
    assert len(answers) == 60
    assert all(text == ((name * 5)[:5] if name else "abcab") for name, text in answers)


async def test_who_reads_slowly_keeps_nobody_waiting(site: Site) -> None:
    """What has ended is no work, though its reader has not read it yet."""
    one, _, three = await models(site)
    async with three.stream(Submit("slow", (1,), 5, GREEDY)) as events:
        assert await answer(one) == "abc"
        assert three.state == "asleep"
        assert isinstance([event async for event in events][-1], Finish)
    assert three.in_flight == three.num_open == 0


async def test_a_reader_that_opens_another_stream_does_not_wait_for_itself(site: Site) -> None:
    """As a request for several choices does, whose model is paused between two of them."""
    one, _, three = await models(site)
    async with three.stream(Submit("first", (1,), 100, GREEDY)) as events:
        assert not isinstance(await anext(events), Fail)
        waiter = asyncio.create_task(answer(one))
        await settle(lambda: one.instances.pending == 1)
        await asyncio.sleep(0.05)  # three had its time, and is paused
        assert await answer(three, "second") == "abc"
        assert isinstance([event async for event in events][-1], Finish)
    assert await waiter == "abc"


async def test_who_leaves_before_there_is_room_displaces_nobody(site: Site) -> None:
    one, _, three = await models(site)
    before = len(site.evictions)
    async with three.stream(Submit("long", (1,), 1000, GREEDY)) as events:
        await anext(events)
        waiter = asyncio.create_task(answer(one))
        await settle(lambda: one.instances.pending == 1)
        waiter.cancel()
        await settle(lambda: one.instances.pending == 0)
        assert isinstance([event async for event in events][-1], Finish)
    assert len(site.evictions) == before
    assert three.state == "ready"
    assert await answer(one) == "abc"


async def test_who_waits_for_room_keeps_its_place_when_it_has_to_sleep_deeper(site: Site) -> None:
    one, two, three = await models(site)
    await two.sleep(2)
    async with three.stream(Submit("long", (1,), 300, GREEDY)) as events:
        await anext(events)
        first = asyncio.create_task(answer(one))
        await settle(lambda: one.instances.pending == 1)
        second = asyncio.create_task(answer(two))
        await settle(lambda: two.instances.pending == 1)
        await one.pause()
        await one.sleep(2)
        one.resume()
        assert one.instances.pending == 1
        order: list[str] = []
        first.add_done_callback(lambda _: order.append("first"))
        second.add_done_callback(lambda _: order.append("second"))
        assert isinstance([event async for event in events][-1], Finish)
    assert await first == await second == "abc"
    assert order == ["first", "second"]


async def test_put_to_sleep_while_it_wakes_it_wakes_again(site: Site) -> None:
    one, *_ = await models(site, "load_bytes=100,load_delay=0.01,wake_delay=0.05")
    waiter = asyncio.create_task(answer(one))
    for _ in range(3):
        await settle(lambda: one.in_flight == 1)
        await one.pause()
        await one.sleep(2)
        one.resume()
    assert await waiter == "abc"


async def test_a_model_that_is_starting_is_not_displaced(site: Site) -> None:
    one, two, _ = await models(site, "load_bytes=100,load_delay=0.02,wake_delay=0.1")
    first = asyncio.create_task(answer(one))
    await settle(lambda: one.in_flight == 1)
    second = asyncio.create_task(answer(two))
    assert await first == "abc"
    assert await second == "abc"


async def test_a_busy_sites_requests_each_end_once(site: Site) -> None:
    """Requests that stay and requests that leave, among sleeps of all levels."""
    every = await models(site)
    chance = random.Random(7)
    ends: list[str] = []

    async def one(number: int) -> None:
        replicas, count = every[number % 3], chance.randrange(1, 30)
        events = await collect(replicas, Submit(str(number), (1, 2), count, GREEDY))
        ends.append(type(events[-1]).__name__)

    async def leaves(number: int) -> None:
        with anyio.move_on_after(chance.random() * 0.1):
            await collect(every[number % 3], Submit(f"leaves-{number}", (1,), 1000, GREEDY))

    async with anyio.create_task_group() as group:
        for number in range(90):
            group.start_soon(one if number % 3 else leaves, number)
            if number % 10 == 0:
                await anyio.sleep(0.01)
    assert ends == ["Finish"] * 60
    await settle(lambda: all(not each.in_flight for each in every))
    for replicas in every:
        await replicas.tend()
