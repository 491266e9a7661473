"""Requests for adapters whose base model is still being deployed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inferd.errors import NotFound
from inferd.registry import Entry
from tests.adapters.world import until, world

pytestmark = pytest.mark.anyio


async def test_requests_wait_for_the_base_to_deploy(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        loaded = await here.adapters.load("a", here.folder(1))
        deployment = here.registry.resolve("echo")
        await here.adapters.detach(deployment)
        [entry] = here.registry.entries()
        here.registry.remove(entry)
        coming = Entry("echo", "id", 1, state="deploying")
        here.registry.enter(coming)
        waiting = asyncio.create_task(here.ask("a"))
        await until(lambda: here.service.admission.in_flight)
        await here.adapters.attach(deployment)
        coming.deployment = deployment
        coming.move("running")
        assert await waiting == (loaded.generation, (1, 1, 1))


async def test_unloaded_while_a_request_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        deployment = here.registry.resolve("echo")
        [entry] = here.registry.entries()
        here.registry.remove(entry)
        coming = Entry("echo", "id", 1, state="deploying")
        here.registry.enter(coming)
        waiting = asyncio.create_task(here.ask("a"))
        await until(lambda: here.service.admission.in_flight)
        await here.adapters.unload("a")
        coming.deployment = deployment
        coming.move("running")
        with pytest.raises(NotFound):
            await waiting
