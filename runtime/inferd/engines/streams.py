"""The live streams of one engine: from request id to the task that awaits its events.

Invariant: each submitted id yields exactly one terminal event, from the core or from `fail_all`.
An id stays taken until its terminal event came, even when its reader has left, so that a late
event can never reach another request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inferd.engines.base import is_terminal
from inferd.messages import Abort, Event, Fail, Submit


class Stream(AsyncIterator[Event]):
    """One request's events. Bounded by its `max_tokens`, so a slow reader blocks nobody."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._exhausted = False  # the terminal event was handed out
        self._over: list[Callable[[], None]] | None = []  # to call when it came; None: it has
        self.left = False  # it has no reader any more

    def put(self, event: Event) -> None:
        self._events.append(event)
        if is_terminal(event) and self._over is not None:
            calls, self._over = self._over, None
            for call in calls:
                call()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def when_over(self, call: Callable[[], None]) -> None:
        """See `Events`."""
        if self._over is None:
            call()
        else:
            self._over.append(call)

    async def __anext__(self) -> Event:
        if self._exhausted:
            raise StopAsyncIteration
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        self._exhausted = is_terminal(event)
        return event


class Streams:
    """All live streams.

    Args:
        send: hands a command to the core, in order.
        admit: raises `Unavailable` unless the engine is ready.
    """

    def __init__(self, send: Callable[[Submit | Abort], None], admit: Callable[[], None]) -> None:
        self._send = send
        self._admit = admit
        self._live: dict[str, Stream] = {}
        self._empty: asyncio.Future[None] | None = None  # done when nothing is live

    def __len__(self) -> int:
        return len(self._live)

    @property
    def num_open(self) -> int:
        """Those that run and have a reader; what else is live was aborted, and ends soon."""
        return sum(not stream.left for stream in self._live.values())

    async def ended(self) -> None:
        """Until nothing is live. Only while no more are opened."""
        while self._live:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    @asynccontextmanager
    async def open(self, submit: Submit) -> AsyncIterator[Stream]:
        """Submit on entry, abort on leaving if no terminal event came by then."""
        self._admit()
        stream = Stream()
        if submit.request_id in self._live:
            stream.put(Fail(submit.request_id, "invalid", "request_id is in use"))
            yield stream
            return
        self._live[submit.request_id] = stream
        self._send(submit)
        try:
            yield stream
        finally:
            stream.left = True
            if self._live.get(submit.request_id) is stream:
                self._send(Abort(submit.request_id))

    def dispatch(self, event: Event) -> None:
        """Hand `event` to its stream; it is dropped if its id is unknown."""
        stream = self._live.get(event.request_id)
        if stream is None:
            return
        stream.put(event)
        if is_terminal(event):
            del self._live[event.request_id]
            if not self._live and self._empty is not None and not self._empty.done():
                self._empty.set_result(None)

    def fail_all(self, message: str, log: str = "") -> None:
        """End every stream: the core is gone."""
        for request_id in list(self._live):
            self.dispatch(Fail(request_id, "dead", message, log))
