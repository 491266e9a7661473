"""The waiting queue: order under each policy, and a state machine against a sorted list."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferd_scheduler import PolicyName, Request
from inferd_scheduler.fair import FairShare
from inferd_scheduler.policy import ranking
from inferd_scheduler.queue import WaitingQueue


def waiting(arrival: int, *, caller: str = "", priority: int = 0, adapter: str = "") -> Request:
    request = Request(f"r{arrival}", [1], 4, caller=caller, priority=priority, adapter=adapter)
    request.arrival = arrival
    return request


def drain(queue: WaitingQueue) -> list[int]:
    arrivals = []
    while (head := queue.peek()) is not None:
        queue.remove(head)
        queue.check()
        arrivals.append(head.arrival)
    return arrivals


@pytest.mark.parametrize(
    ("policy", "order"),
    [("fcfs", [0, 1, 2, 3]), ("priority", [1, 3, 0, 2]), ("fair", [0, 1, 2, 3])],
)
def test_the_order_is_the_policy_s(policy: PolicyName, order: list[int]) -> None:
    queue = WaitingQueue(policy)
    for arrival in (0, 1, 2, 3):
        queue.push(waiting(arrival, priority=1 - arrival % 2, caller="same"))
    assert drain(queue) == order


def test_a_preempted_request_comes_before_later_arrivals() -> None:
    queue = WaitingQueue("fcfs")
    for arrival in (5, 3, 4):
        queue.push(waiting(arrival))
    assert drain(queue) == [3, 4, 5]


def test_fair_share_turns_to_the_caller_that_was_served_least() -> None:
    queue = WaitingQueue("fair")
    requests = [waiting(i, caller="many" if i < 4 else "few") for i in range(6)]
    for request in requests:
        queue.push(request)
    served = []
    while (head := queue.peek()) is not None:
        queue.remove(head)
        head.cached_tokens = 0
        queue.charge_prompt(head)
        served.append(head.caller)
    assert served == ["many", "few", "many", "few", "many", "many"]


def test_output_is_charged_once() -> None:
    queue = WaitingQueue("fair")
    busy, idle = waiting(0, caller="busy"), waiting(1, caller="idle")
    queue.push(busy)
    queue.push(idle)
    busy.cached_tokens = 1
    queue.charge_prompt(busy)  # all of it was cached
    assert queue.peek() is busy
    busy.tokens.append(7)
    queue.charge_output(busy)
    busy.cached_tokens = 1
    assert queue.peek() is idle
    idle.tokens += [7]
    idle.cached_tokens = 1
    queue.charge_prompt(idle)
    queue.charge_output(idle)
    queue.charge_output(busy)  # nothing new: still even, the earlier arrival wins
    assert queue.peek() is busy


def test_idle_time_earns_no_credit() -> None:
    shares = FairShare()
    shares.enter("steady", None)
    shares.charge("steady", 100)
    shares.enter("late", 100)
    assert shares.counter("late") == 100


def test_a_caller_that_returns_to_an_empty_queue_starts_at_the_last_leaver() -> None:
    shares = FairShare()
    shares.charge("busy", 70)
    shares.leave("busy")
    shares.enter("late", None)
    assert shares.counter("late") == 70


def test_counters_of_callers_that_owe_nothing_are_forgotten() -> None:
    shares = FairShare()
    for number in range(10_000):
        shares.enter(f"caller-{number}", None)
    assert len(shares) < 5000


@pytest.mark.parametrize("policy", ["fcfs", "priority", "fair"])
def test_removed_requests_do_not_pile_up(policy: PolicyName) -> None:
    queue = WaitingQueue(policy)
    queue.push(waiting(0, caller="first", priority=-1))
    for arrival in range(1, 2000):
        request = waiting(arrival, caller=f"caller {arrival % 7}")
        queue.push(request)
        queue.remove(request)
    assert sum(map(len, queue._lanes.values())) + len(queue._order) < 200
    queue.check()


def test_who_is_passed_over_is_so_with_all_that_want_the_same() -> None:
    queue = WaitingQueue("fcfs")
    for arrival, adapter in enumerate(["x", "", "x", "y"]):
        queue.push(waiting(arrival, adapter=adapter))
    head = queue.peek()
    assert head is not None
    queue.pass_over(head)
    seen = []
    while (other := queue.peek()) is not None:
        queue.remove(other)
        seen.append(other.arrival)
    assert seen == [1, 3]
    queue.restore()
    assert drain(queue) == [0, 2]


ADAPTERS = st.sampled_from(["", "x", "y"])


class QueueMachine(RuleBasedStateMachine):
    """The model sorts: by the lane's counter and head, then by rank in the lane."""

    @initialize(policy=st.sampled_from(["fcfs", "priority", "fair"]))
    def start(self, policy: PolicyName) -> None:
        self.policy = policy
        self.queue = WaitingQueue(policy)
        self.rank = ranking(policy)
        self.arrivals = count()
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    def expected(self, passed: Collection[str] = ()) -> Request | None:
        able = [r for r in self.waiting if r.adapter not in passed]
        if self.policy != "fair":
            return min(able, key=self.rank, default=None)
        shares = self.queue._shares
        return min(able, key=lambda r: (shares.counter(r.caller), self.rank(r)), default=None)

    @rule(caller=st.sampled_from("abc"), priority=st.integers(0, 2), adapter=ADAPTERS)
    def push(self, caller: str, priority: int, adapter: str) -> None:
        request = waiting(next(self.arrivals), caller=caller, priority=priority, adapter=adapter)
        self.waiting.append(request)
        self.queue.push(request)

    @precondition(lambda self: self.waiting)
    @rule(blocked=st.sets(ADAPTERS), most=st.integers(1, 4))
    def admit(self, blocked: set[str], most: int) -> None:
        """Up to `most`, while those who want a blocked adapter are passed over."""
        while most and (head := self.queue.peek()) is not None:
            if head.adapter in blocked:
                self.queue.pass_over(head)
                continue
            assert head is self.expected(blocked)
            self.queue.remove(head)
            self.waiting.remove(head)
            self.running.append(head)
            head.cached_tokens = 0
            self.queue.charge_prompt(head)
            most -= 1
        assert not most or self.expected(blocked) is None
        self.queue.restore()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 3))
    def generate(self, data: st.DataObject, tokens: int) -> None:
        request = data.draw(st.sampled_from(self.running))
        request.tokens += [0] * tokens
        self.queue.charge_output(request)

    @precondition(lambda self: self.running)
    @rule()
    def preempt(self) -> None:
        request = self.running.pop()
        self.waiting.append(request)
        self.queue.push(request)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(request)
        self.queue.remove(request)

    @invariant()
    def agrees(self) -> None:
        self.queue.check()
        assert len(self.queue) == len(self.waiting)
        assert self.queue.peek() is self.expected()
        self.queue.check()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
