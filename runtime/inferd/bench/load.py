"""Two ways to put load on a server: at planned times, or so many requests at once.

An **open loop** sends each request when the plan says, however slow the server is, as independent
users do; latency that counts from the plan then omits no wait (the error that is known as
coordinated omission). A **closed loop** keeps `concurrency` requests running: the next is sent
when one has ended, so a slower server gets less to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

from inferd.bench.record import Record
from inferd.bench.workload import Prompt

Send = Callable[[Prompt, int, float], Awaitable[Record]]
"""Sends a prompt: (prompt, its index, when it was to be sent). It does not raise."""


async def open_loop(
    prompts: Sequence[Prompt],
    times: Sequence[float],
    send: Send,
    *,
    clock: Callable[[], float],
    max_concurrency: int | None = None,
) -> list[Record]:
    """Send `prompts[i]` at `times[i]` seconds from now.

    Args:
        max_concurrency: so many run at most; who waits for that counts as scheduled all the same.
    """
    began = clock()
    turns = asyncio.Semaphore(max_concurrency or len(prompts) or 1)

    async def one(index: int) -> Record:
        async with turns:
            return await send(prompts[index], index, began + times[index])

    async with asyncio.TaskGroup() as tasks:
        running = []
        for index, at in enumerate(times):
            if (wait := began + at - clock()) > 0:
                await asyncio.sleep(wait)
            running.append(tasks.create_task(one(index)))
    return [task.result() for task in running]


async def closed_loop(
    prompts: Sequence[Prompt], concurrency: int, send: Send, *, clock: Callable[[], float]
) -> list[Record]:
    """Keep `concurrency` of `prompts` running until all were sent, in their order."""
    numbers = count()
    records: list[Record] = []

    async def worker() -> None:
        while (index := next(numbers)) < len(prompts):
            records.append(await send(prompts[index], index, clock()))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(concurrency, len(prompts))):
            tasks.create_task(worker())
    return sorted(records, key=lambda record: record.index)
