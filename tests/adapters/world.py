"""Adapters over an echo engine, with a service, a store in memory and a gate before each load."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferd.adapters.library import Library
from inferd.adapters.records import AdapterRecord
from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.engines import echo
from inferd.engines.base import EngineSpec, EngineState, Events, Progress
from inferd.engines.local import LocalEngine
from inferd.messages import (
    AdapterInfo,
    Caller,
    Chunk,
    EngineInfo,
    EngineStats,
    LoadAdapter,
    MemoryUse,
    Output,
    SleepLevel,
    Start,
    Submit,
)
from inferd.metrics import Metrics
from inferd.registry import Deployment, Registry
from inferd.service import Service
from inferd.store import Store
from tests.adapters.folders import write_adapter
from tests.serving import TEXT, TOKENIZER, ask


class GatedEngine:
    """An engine whose loads wait for `gate`, and its streams for `awake`; it counts loads."""

    def __init__(self, inner: LocalEngine) -> None:
        self.inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_gate = asyncio.Event()
        self.awake = asyncio.Event()
        self.awake.set()
        self.loads: list[str] = []
        self.drops: list[str] = []

    @property
    def state(self) -> EngineState:
        return self.inner.state

    @property
    def info(self) -> EngineInfo:
        return self.inner.info

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        return await self.inner.start(on_progress)

    @asynccontextmanager
    async def stream(self, submit: Submit) -> AsyncIterator[Events]:
        await self.awake.wait()
        async with self.inner.stream(submit) as events:
            yield events

    async def load_adapter(self, load: LoadAdapter) -> AdapterInfo:
        self.loads.append(load.adapter)
        self.at_gate.set()
        await self.gate.wait()
        return await self.inner.load_adapter(load)

    async def drop_adapter(self, adapter: str) -> None:
        self.drops.append(adapter)
        await self.inner.drop_adapter(adapter)

    async def sleep(self, level: SleepLevel) -> MemoryUse:
        return await self.inner.sleep(level)

    async def wake(self) -> MemoryUse:
        return await self.inner.wake()

    async def stats(self) -> EngineStats:
        return await self.inner.stats()

    async def close(self) -> None:
        await self.inner.close()


async def echo_engine(options: str = "", **spec: Any) -> GatedEngine:
    """A started one."""
    vocabulary = f"echo:vocab_size={TOKENIZER.vocab_size}"
    model = ",".join(filter(None, [vocabulary, options]))
    engine = GatedEngine(LocalEngine(echo.create, EngineSpec(engine="echo", model=model, **spec)))
    await engine.start(lambda progress: None)
    return engine


class Records:
    """The store's table, which can be full."""

    def __init__(self, store: Store) -> None:
        self._table = store.table("adapters", AdapterRecord)
        self.full = False

    def all(self) -> dict[str, AdapterRecord]:
        return self._table.all()

    def put(self, key: str, value: AdapterRecord) -> None:
        if self.full:
            raise OSError("disk full")
        self._table.put(key, value)

    def delete(self, key: str) -> None:
        if self.full:
            raise OSError("disk full")
        self._table.delete(key)


@dataclass
class World:
    """One daemon's worth of adapters."""

    path: Path
    engine: GatedEngine
    registry: Registry
    adapters: Adapters
    service: Service
    records: Records

    @property
    def library(self) -> Library:
        return Library(self.path / "library")

    def folder(self, *says: int, **config: Any) -> str:
        """An adapter's folder."""
        folder = self.path / ("says-" + "-".join(map(str, says)))
        return str(write_adapter(folder, says, **config))

    async def ask(self, model: str, tokens: int = 3, **fields: Any) -> tuple[str, tuple[int, ...]]:
        """(generation, first choice's tokens) of one request's reply."""
        outputs = await self.outputs(model, tokens, **fields)
        start = outputs[0]
        assert isinstance(start, Start)
        said = [o for o in outputs if isinstance(o, Chunk) and o.index == 0]
        return start.adapter, tuple(t for each in said for t in each.token_ids)

    async def outputs(self, model: str, tokens: int = 3, **fields: Any) -> list[Output]:
        request = ask(model=model, max_tokens=tokens, ignore_eos=True, **fields)
        async with self.service.stream(request, Caller("me"), request_id="r") as outputs:
            return [output async for output in outputs]

    @asynccontextmanager
    async def running(self, model: str, **fields: Any) -> AsyncIterator[AsyncIterator[Output]]:
        """A request that has replied for the first time, and goes on."""
        request = ask(model=model, max_tokens=4000, ignore_eos=True, **fields)
        async with self.service.stream(request, Caller("me"), request_id="r") as outputs:
            assert isinstance(await anext(outputs), Start)
            yield outputs

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[Adapters]:
        """What the next daemon knows, over the same state and another engine."""
        registry = Registry()
        again = make_adapters(self.path, self.records, registry)
        again.restore()
        deployment = Deployment("echo", await echo_engine(), TEXT, created=1)
        registry.add(deployment)
        try:
            await again.attach(deployment)
            yield again
        finally:
            await deployment.engine.close()

    async def held(self) -> int:
        """Generations in the engine, once everything has settled."""
        await self.adapters.settled()
        self.adapters.check()
        return (await self.engine.stats()).adapters_held


def make_adapters(path: Path, records: Records, registry: Registry, **options: Any) -> Adapters:
    clock = itertools.count(100)
    library = Library(path / "library")
    return Adapters(library, records, registry, clock=lambda: next(clock), **options)


@asynccontextmanager
async def world(
    path: Path, options: str = "", spec: dict[str, Any] | None = None, **keep: Any
) -> AsyncIterator[World]:
    """An echo engine named `echo`. Nothing may be left at the end that no name refers to."""
    async with world_over(path, await echo_engine(options, **(spec or {})), **keep) as here:
        yield here


@asynccontextmanager
async def world_over(path: Path, engine: GatedEngine, **keep: Any) -> AsyncIterator[World]:
    """As `world`, over an engine that runs and is closed at the end."""
    store = Store("sqlite://")
    registry = Registry()
    records = Records(store)
    adapters = make_adapters(path, records, registry, **keep)
    deployment = Deployment("echo", engine, TEXT, created=1, aliases=("other",))
    registry.add(deployment)
    await adapters.attach(deployment)
    service = Service(registry, Admission(64), Metrics(), adapters=adapters, entropy=lambda: 7)
    here = World(path, engine, registry, adapters, service, records)
    try:
        yield here
        if engine.state == "ready":
            await nothing_leaks(here)
    finally:
        await engine.close()
        store.close()


async def until(condition: Callable[[], object]) -> None:
    """Let others run until `condition` holds."""
    while not condition():
        await _turn()


async def _turn() -> None:
    await asyncio.sleep(0.0002)  # threads need a moment, too


async def nothing_leaks(here: World) -> None:
    """No permit, no lease, no sequence; engine and disk hold what names refer to, and no more."""
    assert here.service.admission.in_flight == 0
    while (stats := await here.engine.stats()).running or stats.waiting:
        pass
    await here.adapters.settled()
    records = here.records.all().values()
    assert all(each.in_flight == 0 for each in here.adapters.list())
    assert here.library.generations() == {g for each in records for g in each.generations}
    referred = {g for each in records for g in each.referred()}
    assert (await here.engine.stats()).adapters_held == len(referred)
    assert not list((here.path / "library").glob("incoming-*"))
    here.adapters.check()
