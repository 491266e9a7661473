"""Who acts in a world: callers, operators who also break things, and an auditor."""

from __future__ import annotations

import asyncio
from random import Random

from inferd.errors import InferdError
from inferd.messages import Event, Finish, LoadAdapter, Sampling, Submit, Tokens
from inferd.replicas.replica_set import ReplicaSet
from tests.replicas.simulation.children import token_of
from tests.replicas.simulation.clock import now
from tests.replicas.simulation.world import PATIENCE_S, World


class Caller:
    """Sends requests, one after the other; leaves some of them, reads some slowly."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._random = Random(world.random.random())
        self._count = 0

    async def run(self) -> None:
        random = self._random
        while now() < self._world.end:
            replicas = self._world.sets.get(random.choice(self._world.names))
            if replicas is None:
                await asyncio.sleep(1.0)
                continue
            asking = asyncio.create_task(self._ask(replicas, self._draw(replicas.name)))
            if random.random() < 0.25:
                await self._leave(asking)
            else:
                async with asyncio.timeout(PATIENCE_S):
                    await asking
            if random.random() < 0.5:
                await asyncio.sleep(random.random() * random.choice((0.1, 2.0, 20.0)))

    def _draw(self, model: str) -> Submit:
        random = self._random
        self._count += 1
        adapter = random.choice(("", "", f"{model}a", f"{model}b"))
        return Submit(
            f"{self._name}-{self._count}",
            (1,) * random.randint(1, 40),
            random.choice((1, 5, 20, 60)),
            Sampling(),
            adapter=adapter if adapter in self._world.adapters else "",
        )

    async def _ask(self, replicas: ReplicaSet, submit: Submit) -> None:
        slow_s = self._random.choice((0.0,) * 9 + (100.0,)) * self._random.random()
        again = self._random.random() < 0.2
        events: list[Event] = []
        try:
            async with replicas.stream(submit) as stream:
                async for event in stream:
                    events.append(event)
                    if len(events) == 1:
                        await asyncio.sleep(slow_s)
                    if len(events) == 1 and again:  # as a request for several choices does
                        await answer(replicas, f"{submit.request_id}-again")
        except InferdError as error:
            self._world.seen[type(error).__name__] += 1
            return
        self._world.seen[type(events[-1]).__name__] += 1
        check(submit, events)

    async def _leave(self, asking: asyncio.Task[None]) -> None:
        """At any moment: while it waits, runs or ends."""
        await asyncio.wait({asking}, timeout=self._random.choice((0.0, 0.01, 0.3, 3.0, 10.0)))
        for _ in range(self._random.randint(0, 3)):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking}, timeout=PATIENCE_S)
        assert asking.done(), "whoever leaves is kept"
        if not asking.cancelled():
            asking.result()
        self._world.seen["left"] += 1


def check(submit: Submit, events: list[Event]) -> None:
    """What ended well is whole, and was said by the adapter that was asked for."""
    *tokens, last = events
    if isinstance(last, Finish):
        assert last.reason == "length"
        said = [token for each in tokens if isinstance(each, Tokens) for token in each.token_ids]
        assert said == [token_of(submit.adapter)] * submit.max_tokens


async def answer(replicas: ReplicaSet, request_id: str) -> Event:
    """How a short request ends."""
    async with replicas.stream(Submit(request_id, (1,), 3, Sampling())) as stream:
        return [event async for event in stream][-1]


class Operator:
    """Loads and drops adapters, resizes, restarts; kills and stops processes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(world.random.random())
        self._acts = (
            self._load,
            self._load,
            self._drop,
            self._resize,
            self._kill,
            self._kill,
            self._hang,
            self._recreate,
        )

    async def run(self) -> None:
        world, random = self._world, self._random
        while now() < world.end:
            await asyncio.sleep(random.random() * random.choice((0.5, 4.0, 30.0)))
            name = random.choice(world.names)
            replicas = world.sets.get(name)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if replicas is None:
                        await world.start(name)
                    else:
                        await random.choice(self._acts)(replicas)
            except InferdError as error:
                world.seen[f"operator: {type(error).__name__}"] += 1

    def _adapter(self, replicas: ReplicaSet) -> str:
        return replicas.name + self._random.choice("ab")

    async def _load(self, replicas: ReplicaSet) -> None:
        adapter = self._adapter(replicas)
        await replicas.load_adapter(LoadAdapter(adapter, "folder"))
        self._world.adapters.add(adapter)
        self._world.seen["load"] += 1

    async def _drop(self, replicas: ReplicaSet) -> None:
        adapter = self._adapter(replicas)
        self._world.adapters.discard(adapter)
        await replicas.drop_adapter(adapter)
        self._world.seen["drop"] += 1

    async def _resize(self, replicas: ReplicaSet) -> None:
        replicas.set_limits(self._random.choice((0, 1, 2)), self._random.choice((1, 2, 3)))

    async def _kill(self, replicas: ReplicaSet) -> None:
        alive = [*self._world.children.alive.values()]
        if alive and self._random.random() < 0.4:
            self._random.choice(alive).kill("was killed by SIGKILL")
            self._world.seen["kill"] += 1

    async def _hang(self, replicas: ReplicaSet) -> None:
        alive = [*self._world.children.alive.values()]
        if alive and self._random.random() < 0.5:
            self._random.choice(alive).hang(self._random.random() * 80.0)
            self._world.seen["hang"] += 1

    async def _recreate(self, replicas: ReplicaSet) -> None:
        """Whoever finds it gone starts another one."""
        if self._random.random() < 0.3 and self._world.sets.get(replicas.name) is replicas:
            await self._world.close(replicas.name)
            self._world.seen["close"] += 1


async def audit(world: World) -> None:
    """At moments that fall into all kinds of states."""
    while now() < world.end + 30.0:
        await asyncio.sleep(0.37)
        world.check()
