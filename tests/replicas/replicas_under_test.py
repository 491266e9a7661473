"""Replica sets over echo engines on threads, with a clock and a ledger of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from inferd.engines import echo
from inferd.engines.base import Engine, EngineSpec
from inferd.engines.local import LocalEngine
from inferd.ledger import HOST, Ledger, Need
from inferd.messages import Event, Finish, LoadAdapter, Sampling, Submit, Tokens
from inferd.replicas.replica_set import ReplicaSet
from inferd.replicas.scaling import Limits
from inferd.residency import Eviction, Residency
from inferd.residency import Limits as RoomLimits

GREEDY = Sampling(temperature=0.0)
NEED = Need(weights=100, kv_cache=50)
NEVER = Limits(tick_s=3600.0)  # tests call `tend` themselves


class Clock:
    """Stands still until told otherwise. Seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """One machine's memory, and the models that tests make there."""

    def __init__(self, budget: int = 1000, room: RoomLimits | None = None) -> None:
        """With `room`, time passes."""
        self.clock = Clock()
        self.ledger = Ledger({HOST: budget, "cuda:0": budget, "cuda:1": budget})
        self.evictions: list[Eviction] = []
        self.room = Residency(self.ledger, limits=room, on_evict=self.evictions.append)
        self._time = self.clock if room is None else time.monotonic
        self.engines: list[LocalEngine] = []
        self.sets: list[ReplicaSet] = []

    def make(
        self,
        options: str = "load_bytes=100",
        *,
        name: str = "model",
        need: Need = NEED,
        minimum: int = 1,
        maximum: int = 1,
        limits: Limits = NEVER,
        make: Callable[[EngineSpec], Engine] | None = None,
        devices: Sequence[str] = (HOST,),
        **spec: object,
    ) -> ReplicaSet:
        """A set, not started; by default of echo engines on threads."""
        fields: dict[str, object] = {"max_batch_size": 4, "kv_cache_bytes": 50, **spec}
        made = ReplicaSet(
            EngineSpec(engine="echo", model=f"echo:{options}", **fields),  # type: ignore[arg-type]
            self.room,
            name=name,
            need=need,
            devices=devices,
            min_instances=minimum,
            max_instances=maximum,
            limits=limits,
            make=make or self.on_thread,
            clock=self._time,
        )
        self.sets.append(made)
        return made

    async def start(self, options: str = "load_bytes=100", **keywords: object) -> ReplicaSet:
        made = self.make(options, **keywords)  # type: ignore[arg-type]
        await made.start(lambda progress: None)
        return made

    def on_thread(self, spec: EngineSpec) -> Engine:
        self.engines.append(LocalEngine(echo.create, spec))
        return self.engines[-1]

    def reserved(self) -> int:
        """Bytes."""
        return self.ledger.reserved(HOST)

    async def close(self) -> None:
        for each in self.sets:
            await each.close()
        assert self.reserved() == 0
        self.room.check()


async def settle(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (threads' and processes' effects)
        await anyio.sleep(0.002)


async def brought(replicas: ReplicaSet, count: int) -> None:
    """Until so many are ready."""
    with anyio.fail_after(30):
        await settle(lambda: replicas.instances.running == count)


async def collect(engine: Engine, submit: Submit) -> list[Event]:
    async with engine.stream(submit) as events:
        return [event async for event in events]


async def answer(engine: Engine, request_id: str = "a", adapter: str = "", count: int = 3) -> str:
    """What comes of a short request that must end well, as text of its tokens' bytes."""
    submit = Submit(request_id, (97, 98, 99), count, GREEDY, adapter=adapter)
    events = await collect(engine, submit)
    assert isinstance(events[-1], Finish), events[-1]
    return bytes(t for e in events if isinstance(e, Tokens) for t in e.token_ids).decode()


def adapter(folder: Path, name: str, **config: object) -> LoadAdapter:
    """One that says its own name."""
    place = folder / name
    place.mkdir()
    says = list(name.encode())
    (place / "adapter_config.json").write_text(json.dumps({"r": 4, "echo": says, **config}))
    return LoadAdapter(name, str(place))
