"""What an engine holds while generations are held, let go and held again, in any order."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.adapters.holdings import Holdings
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.errors import EngineError
from inferd.messages import AdapterInfo, LoadAdapter
from tests.adapters.world import GatedEngine, until

NAMES = ("a", "b")


class Slow(GatedEngine):
    """An engine that takes some turns of the loop for each load and drop; never started."""

    def __init__(self, turns: int) -> None:
        super().__init__(LocalEngine(echo.create, EngineSpec(engine="echo")))
        self.holding: set[str] = set()
        self._turns = turns

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        await self._work()
        if load.adapter in self.holding:
            raise EngineError(f"{load.adapter} is held already")
        self.holding.add(load.adapter)
        return AdapterInfo(load.adapter, 4, 100, ())

    async def drop_adapter(self, adapter: str) -> None:
        await self._work()
        self.holding.remove(adapter)

    async def _work(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)


class Users:
    """Who holds generations, and has had them loaded."""

    def __init__(self, engine: Slow) -> None:
        self._engine = engine
        self._tasks: list[tuple[str, asyncio.Task[AdapterInfo]]] = []
        self.gone: Counter[str] = Counter()
        self.holdings = Holdings("echo", engine, Path, lambda name: self.gone.update([name]))

    def take(self, name: str) -> None:
        self._tasks.append((name, asyncio.create_task(self._take(name))))

    def let_go(self, name: str) -> None:
        if self._forget(name):
            self.holdings.release(name)

    def retake(self, name: str) -> None:
        """Let go and take again, before anybody else comes to run."""
        if self._forget(name):
            self._tasks.append((name, asyncio.create_task(self._retake(name))))

    def _forget(self, name: str) -> bool:
        """The first who has it; whether there was one."""
        for number, (held, task) in enumerate(self._tasks):
            if held == name and task.done():
                del self._tasks[number]
                return True
        return False

    async def _take(self, name: str) -> AdapterInfo:
        self.holdings.hold(name)
        return await self.holdings.load(name)

    async def _retake(self, name: str) -> AdapterInfo:
        self.holdings.release(name)
        return await self._take(name)

    def check(self) -> None:
        """Whoever has it, has it still."""
        for name, task in self._tasks:
            if task.done():
                assert task.result().adapter == name
                assert self.holdings.info(name) is not None
                assert name in self._engine.holding

    async def leave(self) -> None:
        for name, task in self._tasks:
            await task
            self.holdings.release(name)
        await self.holdings.settled()


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "let_go", "retake", "turn", "turn"]), st.sampled_from(NAMES)
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=steps, turns=st.integers(1, 3))
def test_who_holds_a_generation_has_it(steps: list[tuple[str, str]], turns: int) -> None:
    async def run() -> None:
        engine = Slow(turns)
        users = Users(engine)
        for what, name in steps:
            if what == "turn":
                await asyncio.sleep(0)
            else:
                getattr(users, what)(name)
            users.check()
        await users.leave()
        assert not engine.holding
        assert not users.holdings.counts
        assert users.gone.keys() == {name for what, name in steps if what == "take"}

    anyio.run(run)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.anyio
async def test_held_again_before_it_was_dropped(turns: int) -> None:
    engine = Slow(turns)
    users = Users(engine)
    users.take("a")
    await until(lambda: engine.holding)
    await asyncio.sleep(0)
    for _ in range(3):
        users.retake("a")
        for _ in range(2 * turns + 2):
            await asyncio.sleep(0)
            users.check()
    assert not users.gone
    await users.leave()


@pytest.mark.parametrize("pause", range(8))
@pytest.mark.anyio
async def test_let_go_twice_and_taken_anew_while_it_is_dropped(pause: int) -> None:
    """Of two drops that wait for their turn, the second must not take the newcomer's place."""
    engine = Slow(turns=1)
    users = Users(engine)
    users.take("a")
    await until(lambda: engine.holding)
    users.retake("a")
    await asyncio.sleep(0)
    users.let_go("a")
    for _ in range(pause):
        await asyncio.sleep(0)
    users.take("a")
    for _ in range(8):
        await asyncio.sleep(0)
        users.check()
    await users.leave()
    assert not engine.holding
