"""The running set: rows, and the calendar of decisions."""

from __future__ import annotations

from inferd_scheduler import Request
from inferd_scheduler.batch import Batch
from inferd_scheduler.request import Move


def running(batch: Batch, name: str) -> Request:
    request = Request(name, [1], 99)
    request.limit = 100
    request.move(Move.SUBMIT)
    request.move(Move.ADMIT)
    batch.add(request)
    return request


def test_the_lowest_free_row_is_given_first() -> None:
    batch = Batch(3)
    a, b = running(batch, "a"), running(batch, "b")
    assert (a.row, b.row) == (0, 1)
    batch.remove(a)
    batch.check(0, [a])
    assert running(batch, "c").row == 2  # the row of `a` is not free yet
    assert not batch.has_row
    batch.free_row(a)
    assert running(batch, "d").row == 0


def test_each_decision_comes_up_in_its_step_and_once() -> None:
    batch = Batch(3)
    requests = [running(batch, name) for name in "abc"]
    for request, number in zip(requests, (4, 5, 4), strict=True):
        batch.decode(request)
        batch.watch(request, number)
    batch.check(3, [])
    batch.remove(requests[2])
    assert batch.due(3) == []
    assert batch.due(4) == [requests[0]]
    assert batch.due(4) == []
    assert batch.due(5) == [requests[1]]


def test_a_removed_sequence_that_comes_back_keeps_only_its_new_date() -> None:
    batch = Batch(1)
    request = running(batch, "a")
    batch.decode(request)
    batch.watch(request, 4)
    batch.remove(request)
    batch.free_row(request)
    batch.add(request)
    batch.decode(request)
    batch.watch(request, 6)
    assert batch.due(4) == []
    assert batch.due(6) == [request]
