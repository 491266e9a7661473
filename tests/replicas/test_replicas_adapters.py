"""Every replica holds every adapter, whenever it came."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine
from inferd.engines.process import Limits as ProcessLimits
from inferd.errors import InvalidRequest
from inferd.messages import Fail, Submit
from inferd.replicas.replica_set import ReplicaSet
from tests.replicas.replicas_under_test import (
    GREEDY,
    Site,
    adapter,
    answer,
    brought,
    collect,
    settle,
)

pytestmark = pytest.mark.anyio


async def two(site: Site, options: str = "", **keywords: object) -> ReplicaSet:
    replicas = await site.start(options, minimum=2, maximum=2, **keywords)
    await replicas.tend()
    await brought(replicas, 2)
    return replicas


async def held(site: Site) -> list[int]:
    return [(await engine.stats()).adapters_held for engine in site.engines]


async def refused(replicas: ReplicaSet, name: str) -> bool:
    end = (await collect(replicas, Submit("a", (1,), 1, GREEDY, adapter=name)))[-1]
    return isinstance(end, Fail) and end.param == "adapter"


async def test_all_hold_what_was_loaded_and_dropped(site: Site, tmp_path: Path) -> None:
    replicas = await two(site)
    info = await replicas.load_adapter(adapter(tmp_path, "one"))
    assert (info.adapter, info.rank) == ("one", 4)
    assert await held(site) == [1, 1]
    assert await answer(replicas, adapter="one") == "one"
    await replicas.drop_adapter("one")
    assert await held(site) == [0, 0]
    assert await refused(replicas, "one")
    await replicas.drop_adapter("one")


async def test_one_that_comes_later_holds_them_before_it_takes_requests(
    site: Site, tmp_path: Path
) -> None:
    replicas = await site.start("adapter_delay=0.01", maximum=2)
    for name in ("one", "two"):
        await replicas.load_adapter(adapter(tmp_path, name))
    replicas.set_limits(2, 2)
    await replicas.tend()
    await brought(replicas, 2)
    assert await held(site) == [2, 2]


async def test_loaded_while_a_replica_starts_it_gets_there_too(site: Site, tmp_path: Path) -> None:
    replicas = await site.start("load_bytes=4,load_delay=0.01", minimum=2, maximum=2)
    await replicas.tend()
    assert replicas.instances.pending == 1
    await replicas.load_adapter(adapter(tmp_path, "one"))
    await brought(replicas, 2)
    await replicas.tend()
    assert await held(site) == [1, 1]


async def test_loading_wakes_it(site: Site, tmp_path: Path) -> None:
    replicas = await site.start()
    await replicas.sleep(2)
    await replicas.load_adapter(adapter(tmp_path, "one"))
    assert await answer(replicas, adapter="one") == "one"


async def test_dropped_in_its_sleep_it_is_gone(site: Site, tmp_path: Path) -> None:
    replicas = await two(site)
    await replicas.load_adapter(adapter(tmp_path, "one"))
    await replicas.sleep(1)
    await replicas.drop_adapter("one")
    assert await answer(replicas) == "abc"
    assert await refused(replicas, "one")


async def test_one_that_does_not_fit_is_held_by_nobody(site: Site, tmp_path: Path) -> None:
    replicas = await two(site)
    with pytest.raises(InvalidRequest, match="r: 1000"):
        await replicas.load_adapter(adapter(tmp_path, "large", r=1000))
    await replicas.tend()
    assert await held(site) == [0, 0]
    assert await refused(replicas, "large")


async def test_the_same_one_loaded_by_many_is_loaded_once(site: Site, tmp_path: Path) -> None:
    replicas = await two(site, "adapter_delay=0.01")
    load = adapter(tmp_path, "one")
    infos = await asyncio.gather(*(replicas.load_adapter(load) for _ in range(5)))
    assert len({info.adapter for info in infos}) == 1
    assert await held(site) == [1, 1]
    await asyncio.gather(replicas.drop_adapter("one"), replicas.load_adapter(load))
    assert await held(site) == [1, 1]


async def test_what_was_loaded_for_nobody_is_dropped_again(site: Site, tmp_path: Path) -> None:
    replicas = await two(site, "adapter_delay=0.02")
    load = asyncio.create_task(replicas.load_adapter(adapter(tmp_path, "one")))
    await asyncio.sleep(0.001)
    load.cancel()
    await asyncio.wait({load})
    while not await refused(replicas, "one"):  # it waits for the load, and may be served
        await replicas.tend()
    while await held(site) != [0, 0]:
        await replicas.tend()


async def test_one_that_can_not_be_loaded_again_is_run_by_those_that_hold_it(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replicas = await site.start(maximum=2)
    load = adapter(tmp_path, "one")
    await replicas.load_adapter(load)
    (Path(load.folder) / "adapter_config.json").unlink()
    replicas.set_limits(2, 2)
    await replicas.tend()
    await brought(replicas, 2)
    assert "replica 1 lacks adapter one" in caplog.text
    assert await held(site) == [1, 0]
    await replicas.tend()
    assert await answer(replicas, adapter="one") == "one"


async def test_loaded_while_a_process_restarts_it_gets_there_too(
    site: Site, tmp_path: Path
) -> None:
    hosts: list[HostEngine] = []

    def make(spec: EngineSpec) -> HostEngine:
        hosts.append(HostEngine(spec, limits=ProcessLimits(pulse_s=0.05, backoff_s=0.05)))
        return hosts[-1]

    replicas = await two(site, make=make)
    await replicas.load_adapter(adapter(tmp_path, "one"))
    assert hosts[0].pid is not None
    os.kill(hosts[0].pid, signal.SIGKILL)
    await settle(lambda: hosts[0].state == "restarting")
    await replicas.load_adapter(adapter(tmp_path, "two"))
    await replicas.drop_adapter("one")
    await brought(replicas, 2)
    await replicas.tend()
    for host in hosts:
        assert (await host.stats()).adapters_held == 1
        assert await answer(host, adapter="two") == "two"
