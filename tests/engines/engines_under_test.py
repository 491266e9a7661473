"""What tests of every engine share: sizes, and requests that must end well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from inferd.engines.base import Engine
from inferd.messages import Event, Finish, Sampling, Submit, Tokens

VOCAB = 96
MAX_LEN = 128
HIDDEN = 32
GREEDY = Sampling(temperature=0.0)

Make = Callable[..., Engine]
Start = Callable[..., Awaitable[Engine]]


async def collect(engine: Engine, submit: Submit) -> list[Event]:
    async with engine.stream(submit) as events:
        return [event async for event in events]


async def generate(engine: Engine, submit: Submit) -> list[int]:
    """The new tokens of a request that must end well."""
    events = await collect(engine, submit)
    assert isinstance(events[-1], Finish), events[-1]
    return tokens(events)


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Tokens) for token in event.token_ids]


@asynccontextmanager
async def begun(engine: Engine, submit: Submit) -> AsyncIterator[AsyncIterator[Event]]:
    """The stream of a request that has yielded its first tokens."""
    async with engine.stream(submit) as events:
        assert isinstance(await anext(events), Tokens)
        yield events
