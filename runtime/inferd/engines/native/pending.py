"""Requests that wait for their grammar or their adapter, out of the scheduler's sight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from msgspec import Struct

from inferd.engines.native.grammars import Compiled
from inferd.messages import Submit


class Pending(Struct, frozen=True):
    submit: Submit
    compiled: Future[Compiled] | None  # None: it has no grammar
    submitted: float  # seconds


class PendingRequests:
    """In the order in which they came."""

    def __init__(self) -> None:
        self._requests: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._requests))

    def adapters(self) -> list[str]:
        """One for each that waits and has one."""
        return [each.submit.adapter for each in self._requests.values() if each.submit.adapter]

    def add(self, pending: Pending) -> None:
        assert pending.submit.request_id not in self._requests
        self._requests[pending.submit.request_id] = pending

    def remove(self, request_id: str) -> Pending | None:
        """Forget a request, if it is here, and its grammar if no other waits for it and nobody
        works on it yet."""
        removed = self._requests.pop(request_id, None)
        if removed is not None and removed.compiled is not None:
            waiting = (each.compiled for each in self._requests.values())
            if not any(compiled is removed.compiled for compiled in waiting):
                removed.compiled.cancel()
        return removed

    def wait(self, seconds: float, also: Collection[Future[Any]]) -> None:
        """Until one more is compiled or one of `also` is done, so long at most."""
        grammars = {each.compiled for each in self._requests.values() if each.compiled is not None}
        wait([*(each for each in grammars if not each.done()), *also], seconds, FIRST_COMPLETED)

    def take(self, goes_on: Callable[[Pending], bool]) -> list[Pending]:
        """Remove those that go on."""
        ready = [each for each in self._requests.values() if goes_on(each)]
        for each in ready:
            del self._requests[each.submit.request_id]
        return ready
