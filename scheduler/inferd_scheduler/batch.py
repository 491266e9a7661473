"""The running sequences: their rows, and which of them need no thought in the next step.

In plain decode a sequence does the same in every step: compute its last token, sample the next.
Until its last block is full or its limit is reached, nothing has to be decided, and the step in
which that will happen is known beforehand. Such sequences are `steady`; a calendar says when
each stops being so, and the steps in between never look at them one by one. All others are
`unsteady`: they have more than one pending token, or need a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain

from inferd_scheduler.request import Request, State


class Batch:
    """At most `size` running sequences, each with a row of its own."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.steady: dict[str, Request] = {}
        self.unsteady: dict[str, Request] = {}
        self._free_rows = list(range(size))  # a heap, so that rows in use stay low
        self._calendar: dict[int, list[Request]] = {}  # step number → steady until then

    def __len__(self) -> int:
        return len(self.steady) + len(self.unsteady)

    def __iter__(self) -> Iterator[Request]:
        return chain(self.steady.values(), self.unsteady.values())

    @property
    def has_row(self) -> bool:
        return bool(self._free_rows)

    def add(self, request: Request) -> None:
        """Give `request` a row; it starts unsteady."""
        request.row = heappop(self._free_rows)
        self.unsteady[request.request_id] = request

    def remove(self, request: Request) -> None:
        """Take `request` out of all further steps; its row stays its own until `free_row`."""
        if self.unsteady.pop(request.request_id, None) is None:
            del self.steady[request.request_id]
        request.due = 0

    def free_row(self, request: Request) -> None:
        heappush(self._free_rows, request.row)
        request.row = -1

    def steady_until(self, request: Request, number: int) -> None:
        """`request` is steady up to and including step `number`."""
        del self.unsteady[request.request_id]
        self.steady[request.request_id] = request
        request.due = number
        self._calendar.setdefault(number, []).append(request)

    def expire(self, number: int) -> list[Request]:
        """Those that were steady up to step `number`; they are unsteady now."""
        expired = []
        for request in self._calendar.pop(number, ()):
            if request.due == number:  # else it was removed since
                request.due = 0
                del self.steady[request.request_id]
                self.unsteady[request.request_id] = request
                expired.append(request)
        return expired

    def check(self, last: int, departed: list[Request]) -> None:
        """Rows are used once; steady sequences are so, and are in the calendar after step `last`.

        `departed` are sequences that were removed but still have their rows.
        """
        assert not self.steady.keys() & self.unsteady.keys()
        rows = [request.row for request in [*self, *departed]]
        assert sorted(rows + self._free_rows) == list(range(self.size))
        assert all(request.state is State.RUNNING for request in self)
        assert all(request.due == 0 for request in self.unsteady.values())
        for request in self.steady.values():
            assert request.pending == 1
            assert request.due > last
            assert request in self._calendar[request.due]
            assert request.total + request.due - last <= request.limit
