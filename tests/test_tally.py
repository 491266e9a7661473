"""Counts by model and minute."""

from __future__ import annotations

from inferd.metrics import Metrics, RequestMetrics
from inferd.tally import KEPT, MINUTE, Tally


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def read(tally: Tally, since: float = 0, until: float = float("inf")) -> list[tuple[int, int]]:
    return [(minute, counts.requests) for minute, counts in tally.read("m", since, until)]


def test_what_happens_is_counted_in_its_minute() -> None:
    clock = Clock()
    tally = Tally(clock)
    first = 1_000_000 // MINUTE * MINUTE
    tally.of("m").requests += 1
    tally.of("m").requests += 1
    tally.of("other").requests += 5
    clock.now += 3 * MINUTE
    tally.of("m").requests += 3
    later = first + 3 * MINUTE
    assert read(tally) == [(first, 2), (later, 3)]
    assert read(tally, since=first + 1) == [(later, 3)]
    assert read(tally, until=later) == [(first, 2)]
    assert list(tally.read("nothing", 0, float("inf"))) == []


def test_a_day_is_kept() -> None:
    clock = Clock()
    tally = Tally(clock)
    for _ in range(KEPT + 10):
        tally.of("m").requests += 1
        clock.now += MINUTE
    assert len(read(tally)) == KEPT
    clock.now += (KEPT + 1) * MINUTE
    assert read(tally) == []


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.of("m").requests += 1
    clock.now -= 10 * MINUTE
    tally.of("m").requests += 1
    assert [requests for _, requests in read(tally)] == [2]


def test_requests_are_counted_as_they_happen() -> None:
    tally = Tally(Clock())
    metrics = Metrics(tally)
    request = RequestMetrics(metrics, "m", lambda: 0.0, 0.0)
    request.accepted(7, 1, 100)
    request.tokens(0, 2)
    request.choice_done(0, "length", 5)
    request.failed(ValueError())
    counts = tally.of("m")
    assert (counts.requests, counts.prompt_tokens) == (1, 7)
    assert (counts.completion_tokens, counts.errors) == (5, 1)
