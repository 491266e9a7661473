"""When there is one replica more, one fewer, or none awake."""

from __future__ import annotations

import pytest

from inferd.replicas.scaling import Limits, Load, Scaler

LIMITS = Limits(up_s=5.0, down_s=60.0, idle_s=300.0, deep_s=1800.0)


def load(ready: int = 1, **fields: float) -> Load:
    values: dict[str, float] = {
        "pending": 0,
        "asleep": 0,
        "in_flight": 1,
        "queued": 0,
        "batch": 4,
        "idle_s": 0.0,
    }
    return Load(ready=ready, **{**values, **fields})  # type: ignore[arg-type]


def decisions(scaler: Scaler, view: Load, times: list[float]) -> list[str]:
    return [scaler.decide(view, now) for now in times]


def test_grows_once_requests_have_waited_for_a_while() -> None:
    scaler = Scaler(LIMITS, 1, 3)
    queue = load(in_flight=9, queued=5)
    assert decisions(scaler, queue, [0, 4, 5]) == ["stay", "stay", "up"]
    assert decisions(scaler, load(2, in_flight=9, queued=1), [6, 9, 11]) == ["stay", "stay", "up"]
    assert decisions(scaler, load(3, in_flight=99, queued=1), [12, 99]) == ["stay", "stay"]


def test_a_queue_that_comes_and_goes_is_none() -> None:
    scaler = Scaler(LIMITS, 1, 3)
    for now in range(0, 60, 3):
        assert scaler.decide(load(queued=now % 2), now) == "stay"


def test_shrinks_once_fewer_would_have_done_for_long() -> None:
    scaler = Scaler(LIMITS, 1, 3)
    assert decisions(scaler, load(3, in_flight=4), [0, 59, 60]) == ["stay", "stay", "down"]
    assert decisions(scaler, load(2, in_flight=2), [61, 100, 121]) == ["stay", "stay", "down"]
    assert decisions(scaler, load(1, in_flight=0), [122, 1000]) == ["stay", "stay"]


def test_neither_grows_nor_shrinks_in_between() -> None:
    scaler = Scaler(LIMITS, 1, 3)
    assert decisions(scaler, load(2, in_flight=3), [0, 60, 1000]) == ["stay"] * 3
    assert decisions(scaler, load(2, in_flight=8), [1001, 2000]) == ["stay"] * 2


def test_one_busy_moment_starts_the_wait_anew() -> None:
    scaler = Scaler(LIMITS, 1, 3)
    assert decisions(scaler, load(2), [0, 59]) == ["stay", "stay"]
    assert scaler.decide(load(2, in_flight=8), 60) == "stay"
    assert decisions(scaler, load(2), [61, 120, 121]) == ["stay", "stay", "down"]


def test_limits_hold_at_once() -> None:
    scaler = Scaler(LIMITS, 1, 1)
    scaler.minimum = scaler.maximum = 2
    assert scaler.decide(load(1), 0) == "up"
    assert scaler.decide(load(1, pending=1), 1) == "stay"
    scaler.minimum = scaler.maximum = 1
    assert scaler.decide(load(2, in_flight=8), 2) == "down"
    scaler.minimum = scaler.maximum = 0
    assert scaler.decide(load(1), 3) == "stay"


@pytest.mark.parametrize(("minimum", "decision"), [(0, "sleep"), (1, "stay")])
def test_sleeps_when_idle_where_no_instance_must_stay(minimum: int, decision: str) -> None:
    scaler = Scaler(LIMITS, minimum, 2)
    assert scaler.decide(load(in_flight=0, idle_s=299), 0) == "stay"
    assert scaler.decide(load(in_flight=1, idle_s=301), 1) == "stay"
    assert scaler.decide(load(in_flight=0, idle_s=300), 2) == decision
    assert scaler.decide(load(2, in_flight=0, idle_s=300), 3) == decision


def test_sleeps_deeply_after_long() -> None:
    scaler = Scaler(LIMITS, 0, 1)
    assert scaler.decide(load(0, asleep=1, in_flight=0, idle_s=2099), 0) == "stay"
    assert scaler.decide(load(0, asleep=1, in_flight=0, idle_s=2100), 1) == "sleep_deeply"


@pytest.mark.parametrize(("minimum", "decision"), [(0, "stay"), (1, "up")])
def test_who_died_comes_back_and_who_sleeps_does_not(minimum: int, decision: str) -> None:
    scaler = Scaler(LIMITS, minimum, 1)
    assert scaler.decide(load(0, in_flight=0), 0) == decision
    assert scaler.decide(load(0, asleep=1, in_flight=0), 1) == "stay"


def test_failed_starts_are_tried_again_ever_later() -> None:
    limits = Limits(retry_s=10.0, retry_max_s=300.0)
    assert [limits.retry_after(n) for n in (0, 1, 2, 5, 10**6)] == [10, 20, 40, 300, 300]
