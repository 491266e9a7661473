"""Who comes first, who gives way, and what a token costs a caller: pure functions.

`fcfs`: by arrival. `priority`: smaller `priority` first, then by arrival. `fair`: the caller that
was served least first (see `fair`), and a caller's own requests by arrival.

A running sequence is never preempted to make room in a merely full batch: that would throw away
work to gain nothing but latency. It gives way only when the pool has no block left, and then the
last in the *fixed* order goes: `priority` then arrival under `priority`, arrival otherwise. Since
the first in that order is never preempted, it finishes, and so, in turn, does everyone. (A victim
by the fair counters, which move with every token, could make two callers preempt each other.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from inferd_scheduler.config import PolicyName
from inferd_scheduler.request import Request

Rank: TypeAlias = tuple[int, int]
"""A request's place in the fixed order: smaller first, unique."""

INPUT_COST = 1  # VTC's w_p, per computed prompt token
OUTPUT_COST = 2  # VTC's w_q, per sampled token: a decode step is dearer than its tokens' prefill


def by_arrival(request: Request) -> Rank:
    return (0, request.arrival)


def by_priority(request: Request) -> Rank:
    return (request.priority, request.arrival)


def ranking(policy: PolicyName) -> Callable[[Request], Rank]:
    """The fixed order under `policy`."""
    return by_priority if policy == "priority" else by_arrival


def victim(running: Iterable[Request], rank: Callable[[Request], Rank]) -> Request:
    """Which running request gives way when the pool is empty: the last in the fixed order."""
    return max(running, key=rank)


def prompt_cost(request: Request) -> int:
    """What admission costs: the given tokens that the prefix cache did not hold."""
    return INPUT_COST * (request.num_given - request.cached_tokens)


def output_cost(tokens: int) -> int:
    return OUTPUT_COST * tokens


def lifted(counter: int, floor: int) -> int:
    """The counter of a caller that starts to wait: idle time earns no credit.

    `floor` is the smallest counter among the waiting callers, or the one of the caller that left
    the queue last if none waits (VTC, arXiv 2401.00588, algorithm 2).
    """
    return max(counter, floor)
