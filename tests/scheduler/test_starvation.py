"""No starvation under mixed lengths: properties of every step, and bounds on whole runs."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from inferd_scheduler import PolicyName, Refused, Request, SchedulerConfig, State
from inferd_scheduler.policy import ranking
from tests.scheduler.harness import Harness


@dataclass(frozen=True)
class Arrival:
    step: int
    prompt: int
    output: int
    priority: int
    caller: str
    adapter: str


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        step=st.integers(0, 12),
        prompt=st.sampled_from([1, 2, 7, 25]),
        output=st.sampled_from([1, 3, 12]),
        priority=st.integers(0, 2),
        caller=st.sampled_from("xyz"),
        adapter=st.sampled_from(["", "p", "q", "r"]),
    ),
    min_size=1,
    max_size=14,
)
CONFIGS = st.builds(
    SchedulerConfig,
    max_batch_size=st.integers(1, 5),
    max_batch_tokens=st.integers(5, 16),
    num_blocks=st.integers(20, 40),
    block_size=st.sampled_from([2, 4]),
    max_model_len=st.just(40),
    policy=st.sampled_from(["fcfs", "priority", "fair"]),
    prefix_cache=st.booleans(),
    max_adapters=st.integers(1, 3),
    adapter_turn=st.sampled_from([0, 6]),
)


@given(config=CONFIGS, arrivals=ARRIVALS)
@settings(max_examples=100, deadline=None)
def test_every_request_finishes_with_two_steps_in_flight(
    config: SchedulerConfig, arrivals: list[Arrival]
) -> None:
    """Within twice the bound: a step may be planned before it is known who ends."""
    harness = Harness(config, depth=2)
    steps = 0
    while steps <= 12 or harness.flights or harness.scheduler.has_work:
        for number, arrival in enumerate(arrivals):
            if arrival.step == steps:
                harness.submit(_request(number, arrival))
        before = set(harness.open)
        running = {r.request_id for r in _in(harness, State.RUNNING) if r.pending == 1}
        step = harness.step()
        if step is not None:  # a sequence in decode advances in every step
            works = {work.request_id for work in step.works}
            went_on = running & before & set(harness.open)
            preempted = set(step.preempted)
            assert works >= went_on - preempted
        steps += 1
        work = sum(a.prompt + a.output + 1 for a in arrivals)
        assert steps <= 13 + 4 * len(arrivals) * work
    assert not harness.open


@given(config=CONFIGS, arrivals=ARRIVALS)
@settings(max_examples=150, deadline=None)
def test_every_request_finishes_within_a_bounded_number_of_steps(
    config: SchedulerConfig, arrivals: list[Arrival]
) -> None:
    harness = Harness(config)
    rank = ranking(config.policy)
    steps = 0
    while steps <= 12 or harness.scheduler.has_work:
        for number, arrival in enumerate(arrivals):
            if arrival.step == steps:
                harness.submit(_request(number, arrival))
        before = {r.request_id: r.pending for r in _in(harness, State.RUNNING)}
        step = harness.plan()
        if step is not None:
            works = {work.request_id: work for work in step.works}
            kept = [r for r in _in(harness, State.RUNNING) if r.request_id in before]
            # A sequence in decode advances in every step.
            assert all(r.request_id in works for r in kept if r.pending == 1)
            # So does the first of those that have more to compute.
            filling = [r for r in kept if r.pending > 1]
            assert not filling or min(filling, key=rank).request_id in works
            # New sequences get what running ones leave.
            new = [harness.requests[work.request_id] for work in step.works if work.first]
            if new:
                assert all(len(works[r.request_id].tokens) == r.pending for r in filling)
            # Nobody overtakes: whoever waits on comes after whoever came in, or lacks a slot.
            if config.policy != "fair" and new:
                last = max(map(rank, new))
                overtaken = [r for r in _in(harness, State.WAITING) if rank(r) < last]
                _check_overtaken(harness, sorted(overtaken, key=rank), new)
            harness.commit()
        steps += 1
        # Each request waits at most for everyone once, and then runs ahead of all later ones.
        work = sum(a.prompt + a.output + 1 for a in arrivals)
        assert steps <= 13 + 2 * len(arrivals) * work
    harness.run(max_steps=0)


def _check_overtaken(harness: Harness, overtaken: list[Request], new: list[Request]) -> None:
    """The first of them has no slot, though all are in use; the others neither, or a drained one,
    to which nobody came who was behind the first."""
    if not overtaken:
        return
    rank = ranking(harness.config.policy)
    slots = harness.scheduler.adapter_slots
    in_use = {r.adapter for r in _in(harness, State.RUNNING)} - {""}
    assert overtaken[0].adapter not in {"", *slots}
    assert in_use == slots.keys()
    assert len(slots) == harness.config.max_adapters
    drained = {r.adapter for r in overtaken} & slots.keys()
    assert len(drained) <= 1
    assert "" not in {r.adapter for r in overtaken}
    assert not drained & {r.adapter for r in new if rank(r) > rank(overtaken[0])}


def _in(harness: Harness, state: State) -> list[Request]:
    return [request for request in harness.requests.values() if request.state is state]


def _request(number: int, arrival: Arrival) -> Request:
    return Request(
        f"r{number}",
        [number] * arrival.prompt,
        arrival.output,
        priority=arrival.priority,
        caller=arrival.caller,
        adapter=arrival.adapter,
    )


def flooded(policy: PolicyName, *, depth: int = 1) -> int:
    """Steps until a long request is done under an endless flood of short ones."""
    config = SchedulerConfig(
        max_batch_size=4,
        max_batch_tokens=8,
        num_blocks=20,
        block_size=4,
        max_model_len=80,
        policy=policy,
        max_queue_requests=20,
    )
    harness = Harness(config, depth)
    number = 0

    def flood() -> None:
        nonlocal number
        for _ in range(4):
            number += 1
            try:
                harness.submit(Request(f"short-{number}", [number, 1, 2], 5, caller="flood"))
            except Refused:
                return

    for _ in range(5):
        flood()
        harness.step()
    harness.abort(harness.open[-1])  # make room in the queue
    harness.submit(Request("long", range(64), 10, caller="long"))
    steps = 0
    while harness.end("long") is None:
        flood()
        harness.step()
        steps += 1
        assert steps < 200
    return steps


def test_a_flood_of_short_requests_cannot_hold_up_a_long_one() -> None:
    """About 20 shorts before it, then 64 / (8 - 3) chunks at most and 10 tokens."""
    for depth in (1, 2):
        assert flooded("fcfs", depth=depth) <= 80
        assert flooded("priority", depth=depth) <= 80


def test_under_fair_share_it_need_not_even_wait_for_those_before_it() -> None:
    for depth in (1, 2):
        assert flooded("fair", depth=depth) < flooded("fcfs", depth=depth)
