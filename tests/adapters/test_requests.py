"""Requests and what happens to names meanwhile: each keeps the generation that it pinned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inferd.errors import BusyError, Conflict, EngineDead, EngineError, NotFound, Unavailable
from inferd.messages import Caller, Chunk, Output
from inferd.registry import Deployment
from tests.adapters.world import World, echo_engine, until, world
from tests.serving import TEXT, ask, texts

pytestmark = pytest.mark.anyio

SLOW = "delay=0.001"


def said(outputs: list[Output]) -> set[int]:
    return {t for each in outputs if isinstance(each, Chunk) for t in each.token_ids}


async def some(outputs: AsyncIterator[Output], count: int = 5) -> set[int]:
    """What the next few chunks say."""
    return said([await anext(outputs) for _ in range(count)])


async def rest(outputs: AsyncIterator[Output]) -> set[int]:
    """What all further chunks say."""
    return said([output async for output in outputs])


@pytest.mark.parametrize("n", [1, 3])
async def test_a_swap_leaves_running_requests_alone(tmp_path: Path, n: int) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        async with here.running("a", n=n) as outputs:
            await here.adapters.swap("a", here.folder(2))
            await here.adapters.swap("a", here.folder(3))
            assert (await here.ask("a", n=n))[1] == (3, 3, 3)
            assert await some(outputs, 20) == {1}
            assert await here.held() == 3


async def test_what_was_pinned_is_submitted_though_the_name_moved_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path, spec={"max_model_len": 8000}) as here:
        first = await here.adapters.load("a", here.folder(1))
        second = await here.adapters.swap("a", here.folder(2))
        asking = asyncio.create_task(here.ask("a", prompt="b " * 3000))  # encoded on a thread
        await asyncio.sleep(0)
        assert here.adapters.status("a").in_flight == 1
        await here.adapters.rollback("a")
        assert not asking.done()
        assert await asking == (second.generation, (2, 2, 2))
        assert await here.ask("a") == (first.generation, (1, 1, 1))


async def test_a_generation_is_dropped_with_its_last_lease(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW, keep_previous=1) as here:
        first = await here.adapters.load("a", here.folder(1))
        async with here.running("a"):
            await here.adapters.swap("a", here.folder(2))
            await here.adapters.swap("a", here.folder(3))
            assert here.library.has(first.generation)  # it may have to be read again
        assert await here.held() == 2
        assert not here.library.has(first.generation)


async def test_unloading_drains_visibly(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        async with here.running("a") as outputs:
            status = await here.adapters.unload("a")
            assert status is not None
            assert (status.state, status.in_flight) == ("draining", 1)
            assert here.adapters.list() == (status,)
            with pytest.raises(NotFound, match="being unloaded"):
                await here.ask("a")
            assert await some(outputs) == {1}
            waiter = asyncio.create_task(here.adapters.unload("a", wait=True))
            await asyncio.sleep(0)
            assert not waiter.done()
        assert await waiter is None
        assert here.adapters.list() == ()


async def test_a_name_is_free_while_it_drains(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        async with here.running("a") as outputs:
            await here.adapters.unload("a")
            await here.adapters.load("a", here.folder(2))
            assert [each.state for each in here.adapters.list()] == ["active", "draining"]
            assert (await here.ask("a"))[1] == (2, 2, 2)
            assert await some(outputs) == {1}


@pytest.mark.parametrize("n", [1, 3])
async def test_after_the_deadline_what_runs_ends_with_one_error(tmp_path: Path, n: int) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        came: list[Output] = []

        async def read() -> None:
            async with here.running("a", n=n) as outputs:
                started.set()
                async for output in outputs:
                    came.append(output)

        started = asyncio.Event()
        reader = asyncio.create_task(read())
        await started.wait()
        assert await here.adapters.unload("a", deadline=0.01, wait=True) is None
        with pytest.raises(Unavailable, match="unloaded") as raised:
            await reader
        assert raised.value.code == "adapter_unloaded"
        assert said(came) <= {1}
        assert await here.held() == 0


async def test_the_deadline_does_not_wait_for_who_does_not_read(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        async with here.running("a") as outputs:
            assert await here.adapters.unload("a", deadline=0, wait=True) is None
            assert await here.held() == 0
            with pytest.raises(Unavailable, match="unloaded"):
                await rest(outputs)


@pytest.mark.parametrize("n", [1, 3])
async def test_the_deadline_does_not_wait_for_a_model_to_wake(tmp_path: Path, n: int) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        here.engine.awake.clear()
        request = asyncio.create_task(here.ask("a", n=n))
        await until(lambda: here.adapters.status("a").in_flight)
        assert await here.adapters.unload("a", deadline=0.01, wait=True) is None
        with pytest.raises(Unavailable, match="unloaded"):
            await request


async def test_a_deadline_only_comes_nearer(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        async with here.running("a") as outputs:
            await here.adapters.unload("a", deadline=3600)
            assert await some(outputs) == {1}
            await here.adapters.unload("a", deadline=0)
            await here.adapters.unload("a", deadline=3600, wait=True)
            with pytest.raises(Unavailable):
                await anext(outputs)


async def test_revoked_before_it_was_submitted(tmp_path: Path) -> None:
    """A long prompt is tokenised on a thread; the adapter is gone by then."""
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        request = asyncio.create_task(here.outputs("a", prompt="fox " * 1000))
        await until(lambda: here.adapters.status("a").in_flight)
        await here.adapters.unload("a", deadline=0, wait=True)
        with pytest.raises(Unavailable, match="unloaded"):
            await request


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("turns", range(0, 14, 2))
async def test_a_cancelled_request_gives_its_lease_back(tmp_path: Path, n: int, turns: int) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        task = asyncio.create_task(here.outputs("a", 100, n=n))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert here.adapters.status("a").in_flight == 0


async def test_refused_requests_give_their_lease_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        with pytest.raises(Exception, match="context length"):
            await here.outputs("a", 10, prompt="fox " * 5000)
        here.service.admission.limit = 1
        with here.service.admission.permit(), pytest.raises(BusyError):
            await here.ask("a")
        assert here.adapters.status("a").in_flight == 0


async def test_a_failing_sequence_gives_its_lease_back(tmp_path: Path) -> None:
    async with world(tmp_path, "fail_token=9") as here:
        await here.adapters.load("a", here.folder(1, 9))
        with pytest.raises(EngineError):
            await here.ask("a")
        assert here.adapters.status("a").in_flight == 0


@pytest.mark.parametrize("n", [1, 2])
async def test_a_dying_engine_ends_its_leases(tmp_path: Path, n: int) -> None:
    async with world(tmp_path, "raise_token=9") as here:
        await here.adapters.load("a", here.folder(1, 9))
        with pytest.raises(EngineDead):
            await here.ask("a", n=n)
        assert here.adapters.status("a").in_flight == 0
        assert await here.adapters.unload("a", wait=True) is None


# ---------------------------------------------------------------- changes at once


async def test_two_loads_of_one_name_take_turns(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        results = await asyncio.gather(
            here.adapters.load("a", here.folder(1)),
            here.adapters.load("a", here.folder(2)),
            here.adapters.load("a", here.folder(1)),
            return_exceptions=True,
        )
        assert [isinstance(each, Conflict) for each in results] == [False, True, False]
        assert (await here.ask("a"))[1] == (1, 1, 1)


async def test_a_slow_load_holds_up_nobody_else(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        here.engine.gate.clear()
        slow = asyncio.create_task(here.adapters.load("b", here.folder(2)))
        await here.engine.at_gate.wait()
        assert (await here.ask("a"))[1] == (1, 1, 1)
        assert here.adapters.find("b") is None
        await here.adapters.load("c", here.folder(1))
        here.engine.gate.set()
        assert (await slow).state == "active"


async def at_gate(here: World, change: str) -> asyncio.Task[object]:
    """A change of `a` that waits in the engine for its generation to be loaded."""
    here.engine.at_gate.clear()
    here.engine.gate.clear()
    source = here.folder(2)
    work = {
        "swap": here.adapters.swap("a", source),
        "canary": here.adapters.canary("a", source, 50),
        "shadow": here.adapters.shadow("a", source),
        "replace": here.adapters.load("a", source, replace=True),
    }
    task: asyncio.Task[object] = asyncio.ensure_future(work.pop(change))
    for unused in work.values():
        unused.close()
    await here.engine.at_gate.wait()
    return task


CHANGES = ["swap", "canary", "shadow", "replace"]


@pytest.mark.parametrize("change", CHANGES)
async def test_unloaded_while_it_changes(tmp_path: Path, change: str) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        task = await at_gate(here, change)
        assert await here.adapters.unload("a") is None
        here.engine.gate.set()
        with pytest.raises(Conflict):
            await task
        assert here.adapters.list() == ()
        assert await here.held() == 0


@pytest.mark.parametrize("change", CHANGES)
async def test_a_cancelled_change_leaves_nothing(tmp_path: Path, change: str) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        before = here.adapters.list()
        task = await at_gate(here, change)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        here.engine.gate.set()
        assert await here.held() == 1
        assert here.adapters.list() == before


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_load_cancelled_anywhere_leaves_nothing(tmp_path: Path, turns: int) -> None:
    async with world(tmp_path) as here:
        task = asyncio.create_task(here.adapters.load("a", here.folder(1)))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert here.adapters.list() == ()


@pytest.mark.parametrize("change", CHANGES)
async def test_the_engine_dies_under_a_change(tmp_path: Path, change: str) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        before = here.adapters.list()
        task = await at_gate(here, change)
        await here.engine.close()
        here.engine.gate.set()
        with pytest.raises((Unavailable, EngineDead)):
            await task
        await here.adapters.settled()
        assert here.adapters.list() == before
        assert len(here.library.generations()) == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_the_deployment_is_made_anew_under_a_change(tmp_path: Path, change: str) -> None:
    async with world(tmp_path) as here:
        first = await here.adapters.load("a", here.folder(1))
        task = await at_gate(here, change)
        new = Deployment("echo", await echo_engine(), TEXT, created=2)
        try:
            await here.adapters.attach(new)
            here.engine.gate.set()
            with pytest.raises(Unavailable):
                await task
            status = here.adapters.status("a")
            assert (status.generation, status.state) == (first.generation, "active")
            assert (await new.engine.stats()).adapters_held == 1
            await here.engine.close()
        finally:
            await new.engine.close()


async def test_a_deleted_base_takes_its_adapters_along(tmp_path: Path) -> None:
    async with world(tmp_path, SLOW) as here:
        await here.adapters.load("a", here.folder(1))
        task = await at_gate(here, "swap")
        async with here.running("echo"):
            await here.adapters.forget("echo")
        here.engine.gate.set()
        with pytest.raises((Conflict, Unavailable)):
            await task
        assert here.adapters.list() == ()
        assert here.library.generations() == set()
        await here.engine.close()


async def test_tokenizing_for_an_adapter_uses_its_base(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        token_ids = await here.service.tokenize("a", "Hello")
        assert await here.service.detokenize("a", token_ids) == "<s>Hello"
        prepared = await here.service.prepare(ask("Hello", model="a"))
        assert prepared.prompt == token_ids
        assert here.adapters.status("a").in_flight == 0


async def test_the_base_and_adapters_answer_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, spec={"max_adapters": 1}) as here:
        for says in (1, 2, 3):
            await here.adapters.load(f"a{says}", here.folder(says))
        replies = await asyncio.gather(*(here.ask(f"a{says}") for says in (1, 2, 3) for _ in "xx"))
        assert [tokens[0] for _, tokens in replies] == [1, 1, 2, 2, 3, 3]
        async with here.service.stream(ask("Hi"), Caller(), request_id="r") as outputs:
            assert texts([each async for each in outputs])
