"""What is held when an answer and the giving up of its load come in the same turn."""

from __future__ import annotations

import asyncio

import pytest

from inferd.engines.calls import Call, Calls
from inferd.messages import AdapterDropped, AdapterInfo, DropAdapter, LoadAdapter

pytestmark = pytest.mark.anyio

LOAD = LoadAdapter("one", "/nowhere")
HELD = AdapterInfo("one", 2, 64, ("q_proj",))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sent() -> list[Call]:
    return []


@pytest.fixture
def calls(sent: list[Call]) -> Calls:
    calls = Calls(sent.append, lambda: None)
    calls.begin()
    return calls


async def begin_load(calls: Calls) -> asyncio.Task[AdapterInfo]:
    load = asyncio.create_task(calls.load(LOAD))
    await asyncio.sleep(0)
    return load


@pytest.mark.parametrize("answer_first", [True, False])
async def test_a_load_given_up_as_its_answer_comes_is_dropped(
    calls: Calls, sent: list[Call], answer_first: bool
) -> None:
    load = await begin_load(calls)
    for act in (lambda: calls.answer(HELD), load.cancel)[:: 1 if answer_first else -1]:
        act()
    await asyncio.wait({load})
    assert load.cancelled()
    assert sent == [LOAD, DropAdapter("one")]
    calls.answer(AdapterDropped("one"))
    await calls.settled()


async def test_one_that_another_waits_for_is_kept(calls: Calls, sent: list[Call]) -> None:
    load, other = await begin_load(calls), await begin_load(calls)
    calls.answer(HELD)
    load.cancel()
    assert await other == HELD
    assert sent == [LOAD]


async def test_one_that_another_got_is_kept(calls: Calls, sent: list[Call]) -> None:
    load = await begin_load(calls)
    calls.answer(HELD)
    load.cancel()
    assert await calls.load(LOAD) == HELD  # at once, before `load` learns of its end
    await asyncio.wait({load})
    assert sent == [LOAD]


async def test_what_a_core_that_is_gone_held_needs_no_drop(calls: Calls, sent: list[Call]) -> None:
    load = await begin_load(calls)
    calls.answer(HELD)
    calls.gone()
    load.cancel()
    await asyncio.wait({load})
    calls.begin()
    assert sent == [LOAD]
