"""Whatever is done to deployments in whatever order, they end up somewhere and hold nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from inferd.errors import InferdError, StartError
from inferd.lifecycle import COMING
from tests.deployments.site import Site, deployments, spec
from tests.deployments.test_deployments import ask

pytestmark = pytest.mark.anyio

NAMES = ("a", "b", "c")
STEPS = 120


async def do_something(site: Site, chance: random.Random) -> None:
    """One operation on a random deployment, or a request; refusals are fine."""
    known = [each.deploy_id for each in site.deployments.list()]
    name = chance.choice(NAMES)
    deploy_id = chance.choice(known) if known else ""
    wait = chance.random() < 0.3
    match chance.choice(("create", "create", "start", "stop", "delete", "update", "ask", "ask")):
        case "create":
            await site.deployments.create(spec(name))
        case "start":
            await site.deployments.start(deploy_id)
        case "stop":
            await site.deployments.stop(deploy_id, wait=wait)
        case "delete":
            await site.deployments.delete(deploy_id, wait=wait)
        case "update":
            await site.deployments.update(deploy_id, max_instances=chance.randint(1, 2))
        case "ask":
            await ask(await site.registry.await_ready(name, 30))


def stir(site: Site, chance: random.Random) -> None:
    """Let downloads and loads pass, hold them up, or have them fail."""
    for gate in (site.models.fetching, site.models.reading):
        gate.error = StartError("not_found", "Chance") if chance.random() < 0.2 else None
        if chance.random() < 0.3:
            gate.open.clear()
        else:
            gate.open.set()


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_of_operations(seed: int) -> None:
    chance = random.Random(seed)
    async with deployments(budget=2) as site:  # room for two of three
        tasks: list[asyncio.Task[None]] = []
        for _ in range(STEPS):
            stir(site, chance)
            tasks.append(asyncio.create_task(do_something(site, chance)))
            for _ in range(chance.randint(0, 30)):
                await asyncio.sleep(0)
        for gate in (site.models.fetching, site.models.reading):
            gate.error = None
            gate.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        unexpected = [e for e in results if isinstance(e, BaseException)]
        assert all(isinstance(each, InferdError) for each in unexpected), unexpected
        for entry in site.registry.entries():
            while entry.state in (*COMING, "stopping"):
                await entry.moved()
        running = {each.model_name for each in site.deployments.list() if each.state == "running"}
        assert site.models.ledger.owners <= running
        listed = {each.deploy_id: each for each in site.deployments.list()}
        expected = dict.fromkeys(site.table.all(), "deleted")
        expected |= {deploy_id: each.state for deploy_id, each in listed.items()}
        await site.deployments.close()  # how it came out is stored after it is told
        assert {key: each.state for key, each in site.table.all().items()} == expected
