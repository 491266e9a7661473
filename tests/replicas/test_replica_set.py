"""A model in several replicas: starting, sleeping, waking, and what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from inferd.errors import StartError, Unavailable
from tests.replicas.replicas_under_test import Site, answer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    with anyio.fail_after(60):
        yield site
    await site.close()


async def test_starts_one_and_serves(site: Site) -> None:
    replicas = await site.start()
    assert replicas.state == "ready"
    assert replicas.instances.running == 1
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150


async def test_a_start_that_fails_gives_everything_back(site: Site) -> None:
    replicas = site.make("start=fail")
    with pytest.raises(StartError, match="start=fail"):
        await replicas.start(lambda progress: None)
    assert replicas.state == "failed"
    assert site.reserved() == 0
    with pytest.raises(Unavailable):
        await answer(replicas)


@pytest.mark.parametrize("level", [1, 2])
async def test_a_request_wakes_it(site: Site, level: int) -> None:
    replicas = await site.start()
    await replicas.sleep(level)  # type: ignore[arg-type]
    assert replicas.state == "asleep"
    assert site.reserved() == (100 if level == 1 else 0)
    assert await answer(replicas) == "abc"
    assert site.reserved() == 150
