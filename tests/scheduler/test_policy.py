"""Order, victims and costs."""

from __future__ import annotations

import pytest

from inferd_scheduler import PolicyName, Request, policy


def request(arrival: int, priority: int = 0) -> Request:
    made = Request(f"r{arrival}", [1] * 10, 1, priority=priority)
    made.arrival = arrival
    return made


@pytest.mark.parametrize(("name", "gone"), [("fcfs", 2), ("fair", 2), ("priority", 1)])
def test_the_last_in_the_fixed_order_gives_way(name: PolicyName, gone: int) -> None:
    running = [request(0, priority=1), request(1, priority=3), request(2, priority=2)]
    assert policy.victim(running, policy.ranking(name)).arrival == gone


def test_a_cached_prompt_costs_only_what_is_computed() -> None:
    asked = request(0)
    asked.cached_tokens = 8
    assert policy.prompt_cost(asked) == 2
    assert policy.output_cost(3) == 6


def test_a_counter_is_lifted_to_the_floor_and_never_lowered() -> None:
    assert policy.lifted(3, 10) == 10
    assert policy.lifted(12, 10) == 12
