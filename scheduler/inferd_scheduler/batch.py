"""The running sequences: their rows, and what each of them needs next.

In decode a sequence does the same in every step: compute its last token, sample the next. Until
its last block is full or its limit is reached, nothing has to be decided, and the step that brings
it there is known beforehand. A calendar of these steps saves looking at each sequence in each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain

from inferd_scheduler.request import Request, State


class Batch:
    """At most `size` running sequences, each with a row of its own.

    `decoding` have one pending token and take part in every step; `filling` have more, or were
    just admitted. `hungry` are decoding, but their block tables are full: before the next step
    they must grow or go (those that went are still listed, in another state). Who moves is said
    when a step is committed; a step that is planned before that looks ahead.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.decoding: dict[str, Request] = {}
        self.filling: dict[str, Request] = {}
        self.hungry: list[Request] = []
        self._free_rows = list(range(size))  # a heap, so that rows in use stay low
        self._calendar: dict[int, list[Request]] = {}  # by step number

    def __len__(self) -> int:
        return len(self.decoding) + len(self.filling)

    def __iter__(self) -> Iterator[Request]:
        return chain(self.decoding.values(), self.filling.values())

    @property
    def has_row(self) -> bool:
        return bool(self._free_rows)

    def add(self, request: Request) -> None:
        """Give `request` a row; it is filling."""
        request.row = heappop(self._free_rows)
        self.filling[request.request_id] = request

    def decode(self, request: Request) -> None:
        """`request` caught up: from filling to decoding."""
        del self.filling[request.request_id]
        self.decoding[request.request_id] = request

    def watch(self, request: Request, number: int) -> None:
        """Nothing is to be decided about `request`, which is decoding, before step `number`."""
        request.due = number
        self._calendar.setdefault(number, []).append(request)

    def due(self, number: int) -> list[Request]:
        """The sequences that step `number` brought to where something must be decided."""
        due = self.soon_due(number)
        self._calendar.pop(number, None)
        for request in due:
            request.due = 0
        return due

    def soon_due(self, number: int) -> list[Request]:
        """The sequences that step `number`, in flight, will bring there. They may be watched for
        a later one, if it was decided."""
        return [request for request in self._calendar.get(number, ()) if request.due == number]

    def remove(self, request: Request) -> None:
        """Take `request` out of all further steps; its row stays its own until `free_row`."""
        if self.decoding.pop(request.request_id, None) is None:
            del self.filling[request.request_id]
        request.due = 0

    def free_row(self, request: Request) -> None:
        heappush(self._free_rows, request.row)
        request.row = -1

    def check(self, last: int, departed: list[Request]) -> None:
        """Rows are used once; what is decoding is either hungry or due after step `last`, which
        was committed last.

        `departed` are sequences that were removed but still have their rows.
        """
        assert not self.decoding.keys() & self.filling.keys()
        rows = [request.row for request in [*self, *departed]]
        assert sorted(rows + self._free_rows) == list(range(self.size))
        assert all(request.state is State.RUNNING for request in self)
        for request in self.filling.values():
            assert 0 <= request.ahead <= request.pending
            assert request.due == 0 or request.ahead == request.pending
        assert all(number > last for number in self._calendar)
        for request in self.decoding.values():
            assert request.pending == 1
            assert request.ahead == 0
            if request.due:
                assert request in self._calendar[request.due]
                assert request.total + request.due - last <= request.limit
            else:
                assert request in self.hungry
