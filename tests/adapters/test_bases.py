"""Which model an adapter belongs to where nobody says: what its config names, or the only one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferd.errors import Conflict
from inferd.registry import Deployment
from tests.adapters.world import World, echo_engine, world
from tests.serving import TEXT

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_models(path: Path) -> AsyncIterator[World]:
    """`echo`, and `second` with the alias `org/second`."""
    async with world(path) as w:
        second = Deployment("second", await echo_engine(), TEXT, 1, aliases=("org/second",))
        entry = w.registry.add(second)
        await w.adapters.attach(second)
        try:
            yield w
        finally:
            await w.adapters.forget("second")
            w.registry.remove(entry)
            await second.engine.close()


async def test_the_base_that_the_config_names(tmp_path: Path) -> None:
    async with two_models(tmp_path) as w:
        source = w.folder(5, base_model_name_or_path="org/second")
        assert (await w.adapters.load("a", source)).base == "second"
        assert (await w.adapters.load("b", source, base="echo")).base == "echo"


async def test_nobody_says_which_of_several(tmp_path: Path) -> None:
    async with two_models(tmp_path) as w:
        source = w.folder(5, base_model_name_or_path="org/unknown")
        with pytest.raises(Conflict) as caught:
            await w.adapters.load("a", source)
        assert caught.value.param == "base"
        assert list((tmp_path / "library").iterdir()) == []
        assert w.adapters.list() == ()


async def test_the_only_model_takes_what_names_another(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        source = w.folder(5, base_model_name_or_path="org/unknown")
        assert (await w.adapters.load("a", source)).base == "echo"


async def test_a_model_may_take_the_name_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.engine.gate.clear()
        loading = asyncio.create_task(w.adapters.load("taken", w.folder(5)))
        await w.engine.at_gate.wait()
        entry = w.registry.add(Deployment("taken", w.engine, TEXT, 1))
        w.engine.gate.set()
        with pytest.raises(Conflict):
            await loading
        w.registry.remove(entry)
        assert w.adapters.list() == ()
        assert await w.held() == 0
