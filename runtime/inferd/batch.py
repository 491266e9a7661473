"""Several generations as one: the prompts of a completions request run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol

from inferd.errors import InferdError, InvalidRequest
from inferd.messages import Caller, Generate, Output, Usage

Numbered = tuple[int, Output]
"""(number of the prompt, what came for it)."""

MAX_PROMPTS = 128

_BACKLOG = 256  # outputs that may wait for a slow reader before the readers of engines wait


class Streaming(Protocol):
    """A `Service`, or what stands before one."""

    def stream(
        self, request: Generate, caller: Caller, *, request_id: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Output]]: ...


def check_count(prompts: int) -> None:
    """For front ends, before they make requests of so many prompts. Raises InvalidRequest."""
    if not 1 <= prompts <= MAX_PROMPTS:
        raise InvalidRequest(f"There must be 1 to {MAX_PROMPTS} prompts, not {prompts}", "prompt")


@asynccontextmanager
async def open_streams(
    service: Streaming, requests: Sequence[Generate], caller: Caller, request_id: str
) -> AsyncIterator[AsyncGenerator[Numbered, None]]:
    """Run all `requests`; iterate over what comes for any of them, ended by one `Usage` that
    sums theirs. The first error ends all. Raises what `Service.stream` raises."""
    if len(requests) == 1:
        async with (
            service.stream(requests[0], caller, request_id=request_id) as outputs,
            aclosing(_numbered(outputs)) as numbered,
        ):
            yield numbered
        return
    queue: asyncio.Queue[tuple[int, Output | Exception]] = asyncio.Queue(_BACKLOG)

    async def pump(number: int, request: Generate) -> None:
        try:
            stream = service.stream(request, caller, request_id=f"{request_id}-{number}")
            async with stream as outputs:
                async for output in outputs:
                    await queue.put((number, output))
        except Exception as error:
            await queue.put((number, error))

    tasks = [asyncio.create_task(pump(*each)) for each in enumerate(requests)]
    try:
        async with aclosing(_merged(queue, len(requests))) as merged:
            yield merged
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _numbered(outputs: AsyncIterator[Output]) -> AsyncGenerator[Numbered, None]:
    async for output in outputs:
        yield 0, output


async def _merged(
    queue: asyncio.Queue[tuple[int, Output | Exception]], count: int
) -> AsyncGenerator[Numbered, None]:
    usages: list[Usage] = []
    while len(usages) < count:
        number, item = await queue.get()
        if isinstance(item, Exception):
            raise _numbered_error(item, number)
        if isinstance(item, Usage):
            usages.append(item)
        else:
            yield number, item
    yield number, _sum(usages)


def _numbered_error(error: Exception, number: int) -> Exception:
    if isinstance(error, InferdError) and error.param == "prompt":
        error.param = f"prompt.{number}"
    return error


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(each.prompt_tokens for each in usages),
        completion_tokens=sum(each.completion_tokens for each in usages),
        cached_tokens=sum(each.cached_tokens for each in usages),
        runtime_s=max(each.runtime_s for each in usages),
        reasoning_tokens=sum(each.reasoning_tokens for each in usages),
    )
