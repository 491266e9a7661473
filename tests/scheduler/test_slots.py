"""Adapter slots: who is let in, who is evicted, which slot is drained for those who lack one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferd_scheduler import PolicyName, Refused, Request, SchedulerConfig, State
from inferd_scheduler.slots import AdapterSlots
from tests.scheduler.harness import Harness

CONFIG = SchedulerConfig(
    max_batch_size=4,
    max_batch_tokens=16,
    num_blocks=64,
    block_size=4,
    max_model_len=64,
    max_adapters=2,
    adapter_turn=0,
)


def running(harness: Harness) -> set[str]:
    return {name for name, r in harness.requests.items() if r.state is State.RUNNING}


def test_the_slot_that_was_left_longest_ago_is_evicted() -> None:
    slots = AdapterSlots(2, 0)
    a, b = slots.pin("a"), slots.pin("b")
    assert slots.take_loads() == ((a, "a"), (b, "b"))
    slots.unpin(b)
    slots.unpin(a)
    assert slots.pin("b") == b  # still there
    slots.unpin(b)
    assert slots.pin("c") == a
    assert slots.take_loads() == ((a, "c"),)
    assert slots.resident == {"b": b, "c": a}
    assert (slots.loads, slots.evictions) == (3, 1)
    slots.unpin(a)
    slots.check([])


def test_a_pinned_slot_is_never_evicted() -> None:
    slots = AdapterSlots(1, 0)
    slot = slots.pin("a")
    slots.pin("a")
    slots.unpin(slot)
    assert not slots.admits("b")
    assert slots.admits("a")
    slots.unpin(slot)
    assert slots.admits("b")
    with pytest.raises(AssertionError, match="not pinned"):
        slots.unpin(slot)


def test_the_bare_model_needs_no_slot() -> None:
    slots = AdapterSlots(0, 0)
    assert slots.admits("")
    assert slots.pin("") == -1
    slots.unpin(-1)
    slots.check([Request("a", [1], 1)])


def test_a_forgotten_adapter_leaves_an_empty_slot_that_is_taken_first() -> None:
    slots = AdapterSlots(3, 0)
    for name in "abc":
        slots.unpin(slots.pin(name))
    slots.take_loads()
    held = slots.pin("c")
    assert not slots.forget("c")
    assert slots.forget("b")
    assert slots.forget("b")
    assert slots.forget("never seen")
    assert slots.pin("d") == 1
    assert slots.evictions == 0
    slots.unpin(held)
    assert slots.forget("c")
    assert slots.resident == {"a": 0, "d": 1}


def test_adapters_and_the_bare_model_share_a_step() -> None:
    harness = Harness(CONFIG)
    for name, adapter in (("a", "x"), ("b", "y"), ("c", ""), ("d", "x")):
        harness.submit(Request(name, [1, 2], 3, adapter=adapter))
    step = harness.step()
    assert step is not None
    assert [work.slot for work in step.works] == [0, 1, -1, 0]
    assert step.slot_loads == ((0, "x"), (1, "y"))
    step = harness.step()
    assert step is not None
    assert [work.slot for work in step.works] == [0, 1, -1, 0]
    assert step.slot_loads == ()
    harness.run()
    stats = harness.scheduler.stats()
    assert (stats.num_adapters, stats.total_adapter_loads, stats.total_adapter_evictions) == (
        2, 2, 0,
    )  # fmt: skip
    assert harness.scheduler.adapter_slots == {"x": 0, "y": 1}
    assert harness.scheduler.forget_adapter("x")
    assert harness.scheduler.adapter_slots == {"y": 1}


def test_who_lacks_a_slot_holds_up_nobody_who_needs_none() -> None:
    harness = Harness(replace(CONFIG, max_adapters=1))
    harness.submit(Request("hot", [1], 20, adapter="x"))
    harness.submit(Request("cold", [1], 2, adapter="y"))
    harness.submit(Request("bare", [1], 2))
    harness.step()
    assert running(harness) == {"hot", "bare"}
    assert not harness.scheduler.forget_adapter("x")
    harness.run()


def test_a_newcomer_does_not_come_to_the_slot_that_is_drained_for_another() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("long", [1], 30, adapter="x"))
    harness.submit(Request("short", [1], 5, adapter="y"))
    harness.submit(Request("cold", [1], 2, adapter="z"))
    harness.submit(Request("late x", [1], 2, adapter="x"))
    harness.submit(Request("late y", [1], 2, adapter="y"))
    harness.step()
    assert running(harness) == {"long", "short", "late x"}  # y is sure to be free first
    while harness.end("cold") is None:
        harness.step()
        assert "late y" not in running(harness)
    assert harness.end("long") is None
    harness.run()
    assert harness.scheduler.stats().total_adapter_loads == 4


def test_a_loaded_slot_has_its_turn_before_it_is_drained() -> None:
    harness = Harness(replace(CONFIG, max_adapters=1, adapter_turn=10))
    harness.submit(Request("hot 0", [1], 6, adapter="x"))
    harness.submit(Request("cold", [1], 1, adapter="y"))
    came = []
    for number in range(1, 30):
        harness.submit(Request(f"hot {number}", [number], 2, adapter="x"))
        step = harness.step()
        assert step is not None
        came += [(step.number, work.request_id) for work in step.works if work.first]
    late = {step for step, name in came if name == "cold"}
    assert late == {12}  # closed from step 11 on, when the last to come has one token to go
    assert {step for step, _ in came} >= {*range(1, 11), 12}
    assert 11 not in {step for step, _ in came}
    harness.run()


def test_who_came_before_still_enters_a_slot_that_is_drained() -> None:
    config = replace(CONFIG, max_adapters=1, policy="priority")
    harness = Harness(config)
    harness.submit(Request("running", [1], 9, adapter="x", priority=1))
    harness.step()
    harness.submit(Request("waits", [1], 2, adapter="y", priority=1))
    harness.step()
    harness.submit(Request("first", [1], 2, adapter="x", priority=0))
    harness.submit(Request("last", [1], 2, adapter="x", priority=2))
    harness.step()
    assert running(harness) == {"running", "first"}
    harness.run()


def test_an_aborted_request_gives_its_pin_back_when_its_step_is_done() -> None:
    harness = Harness(replace(CONFIG, max_adapters=1))
    harness.submit(Request("a", [1], 20, adapter="x"))
    harness.plan()
    harness.abort("a")
    assert not harness.scheduler.forget_adapter("x")
    harness.commit()
    assert harness.scheduler.forget_adapter("x")


def test_a_preempted_request_gives_its_slot_away() -> None:
    config = replace(CONFIG, num_blocks=6, max_model_len=24, max_adapters=2)
    harness = Harness(config)
    harness.submit(Request("a", range(8), 12, adapter="x"))
    harness.submit(Request("b", range(8), 12, adapter="y"))
    while not harness.requests["b"].preemptions:
        harness.plan()
        assert harness.flight is not None
        if harness.flight.preempted:
            assert harness.scheduler.forget_adapter("y")
        harness.commit()
    harness.run()
    assert harness.scheduler.stats().total_adapter_loads == 3


def test_an_adapter_where_there_are_no_slots_is_refused() -> None:
    harness = Harness(replace(CONFIG, max_adapters=0))
    with pytest.raises(Refused, match="adapter") as refusal:
        harness.submit(Request("a", [1], 1, adapter="x"))
    assert refusal.value.code == "invalid"


@pytest.mark.parametrize("policy", ["fcfs", "priority", "fair"])
def test_an_endless_flood_of_other_adapters_starves_nobody(policy: PolicyName) -> None:
    harness = Harness(replace(CONFIG, policy=policy, max_queue_requests=50))
    number = 0

    def flood() -> None:
        nonlocal number
        while harness.scheduler.stats().num_waiting < 8:
            number += 1
            adapter = ("x", "y")[number % 2]
            harness.submit(Request(f"hot {number}", [number % 9], 6, adapter=adapter, caller="hot"))

    for round_ in range(5):
        flood()
        harness.step()
        name = f"cold {round_}"
        harness.submit(Request(name, [1, 2], 4, adapter=f"z{round_}", caller="cold"))
        steps = 0
        while harness.end(name) is None:
            flood()
            harness.step()
            steps += 1
            assert steps <= 40  # those before it, one drained slot, its own tokens
    for name in harness.open:
        harness.abort(name)
