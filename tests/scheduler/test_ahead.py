"""Steps in flight: what the second of two holds, and what becomes of those that end meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferd_scheduler import (
    UNKNOWN,
    Failed,
    Finished,
    Request,
    Result,
    Scheduled,
    Scheduler,
    SchedulerConfig,
    Step,
    Token,
)
from tests.scheduler.harness import Harness

CONFIG = SchedulerConfig(
    max_batch_size=4, max_batch_tokens=16, num_blocks=32, block_size=4, max_model_len=64
)


def planned(harness: Harness) -> Step:
    step = harness.plan()
    assert step is not None
    return step


def test_a_decoding_sequence_goes_on_with_a_token_that_is_not_known() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1, 2], 9))
    planned(harness)
    assert planned(harness).works[0] == ("a", 0, 2, (UNKNOWN,), (), True, False, -1)
    harness.commit()
    assert planned(harness).works[0] == ("a", 0, 3, (UNKNOWN,), (), True, False, -1)
    harness.commit()
    assert planned(harness).works[0] == ("a", 0, 4, (UNKNOWN,), (1,), True, False, -1)
    harness.commit()
    harness.commit()
    assert planned(harness).works[0].tokens == (harness.outputs["a"][-1],)
    harness.commit()
    harness.run()


def test_a_prompt_goes_on_where_the_step_in_flight_stops() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(40), 3))
    spans = []
    for _ in range(5):
        step = planned(harness)
        work = step.works[0]
        spans.append((work.start, len(work.tokens), work.samples, work.first))
        if len(harness.flights) == 2:
            harness.commit()
    assert spans == [
        (0, 16, False, True),
        (16, 16, False, False),
        (32, 8, True, False),
        (40, 1, True, False),
        (41, 1, True, False),
    ]
    harness.run()


def test_who_ends_by_length_is_not_planned_any_more() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("short", [1], 1))
    harness.submit(Request("long", [2], 3))
    planned(harness)
    assert [work.request_id for work in planned(harness).works] == ["long"]
    harness.commit()
    assert harness.scheduler.stats().num_running == 1
    assert [work.request_id for work in planned(harness).works] == ["long"]
    harness.commit()
    assert harness.plan() is None  # the third token is in flight
    harness.commit()
    assert not harness.scheduler.has_work


def test_who_outgrows_the_pool_fails_when_that_is_known() -> None:
    harness = Harness(replace(CONFIG, num_blocks=2), depth=2)
    harness.submit(Request("a", range(6), 20))
    harness.run()
    end = harness.end("a")
    assert isinstance(end, Failed)
    assert end.code == "capacity"
    assert harness.engine.computed_tokens["a"] == 8


def test_newcomers_come_in_beside_a_step_in_flight() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1, 2], 9))
    planned(harness)
    harness.now = 3.0
    harness.submit(Request("b", [3, 4], 2))
    works = planned(harness).works
    assert [(work.request_id, work.row, work.first) for work in works] == [
        ("a", 0, False),
        ("b", 1, True),
    ]
    assert Scheduled("b", 0.0, 0) in harness.commit()
    harness.run()


def test_what_a_stop_token_ends_keeps_its_place_until_the_second_step_is_done() -> None:
    alone = Harness(CONFIG)
    free = alone.submit(Request("free", [5], 12))
    alone.run()
    stop = free.output[1]
    assert stop != free.output[0]
    harness = Harness(CONFIG)
    harness.submit(Request("a", [5], 12, stop_token_ids={stop}))
    harness.step()
    planned(harness)
    second = planned(harness)
    assert harness.commit()[-1] == Finished("a", "stop", stop, 0, 0)
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 1
    harness.submit(Request("b", [6], 2))
    third = planned(harness)  # beside the second, which still has the row
    assert [(work.request_id, work.row) for work in third.works] == [("b", 1)]
    assert second.works[0].row == 0
    assert harness.commit() == [Scheduled("b", 0.0, 0)]
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 1
    harness.run()
    assert harness.outputs["a"][-1] == stop


def test_what_is_in_one_of_two_steps_leaves_with_that_one() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("ends", [1], 1))
    harness.submit(Request("a", [2], 9))
    planned(harness)
    planned(harness)  # without it
    harness.commit()
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 1
    harness.submit(Request("b", [3], 9))
    assert [work.row for work in planned(harness).works if work.first] == [0]
    harness.run()


def test_abort_in_flight_keeps_the_blocks_until_the_step_is_done() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(8), 4))
    harness.submit(Request("b", range(50, 58), 4))
    harness.plan()
    events = harness.abort("a")
    assert events == [Scheduled("a", 0.0, 0), Finished("a", "abort", None, 0, 0)]
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 4
    told = harness.commit()
    assert {event.request_id for event in told} == {"b"}
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 2
    harness.run()


def test_an_id_can_be_used_again_while_its_aborted_step_is_in_flight() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(8), 4))
    harness.plan()
    harness.abort("a")
    step = harness.flight
    assert step is not None
    again = Request("a", [7], 1)
    harness.scheduler.submit(again, 0.0)
    assert harness.scheduler.commit(step, Result([3], {"a": "late fault"}), 1.0) == []
    following = harness.scheduler.plan(1.0)
    assert following is not None
    assert following.works[0].tokens == (7,)


def test_an_abort_beside_two_steps() -> None:
    harness = Harness(CONFIG)
    for name in "ab":
        harness.submit(Request(name, [1, 2, 3], 9))
    planned(harness)
    planned(harness)
    assert harness.abort("a")[-1] == Finished("a", "abort", None, 0, 0)
    for _ in range(2):
        assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 2
        assert {event.request_id for event in harness.commit()} == {"b"}
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks - 1
    harness.run()


def test_an_aborted_prompt_beside_two_steps() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(40), 9))
    planned(harness)
    planned(harness)
    harness.abort("a")
    assert harness.commit() == harness.commit() == []
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks
    assert harness.run() == 0


def test_a_fault_in_the_first_step_counts_and_one_in_the_second_does_not_count_again() -> None:
    harness = Harness(CONFIG)
    for name in "ab":
        harness.submit(Request(name, range(8), 9))
    harness.step()
    harness.step()
    assert harness.scheduler.stats().num_cached_blocks == 2
    planned(harness)
    planned(harness)
    told = harness.commit(failing=["a", "b"])
    assert [type(event) for event in told] == [Failed, Failed]
    # At once, not when the second step is done: newcomers may be planned before that.
    assert harness.scheduler.stats().num_cached_blocks == 0
    harness.submit(Request("c", range(8), 2))
    assert planned(harness).works[0].start == 0
    assert harness.commit(failing=["a", "b"]) == [Scheduled("c", 0.0, 0)]
    harness.run()


def test_an_id_used_again_beside_two_steps_means_the_new_request() -> None:
    scheduler = Scheduler(CONFIG)
    scheduler.submit(Request("a", [1], 9), 0.0)
    first, second = scheduler.plan(0.0), scheduler.plan(0.0)
    assert first is not None
    assert second is not None
    scheduler.abort("a", 0.0)
    scheduler.submit(Request("a", [7], 9), 0.0)
    assert scheduler.commit(first, Result([3], {"a": "late fault"}), 0.0) == []
    third = scheduler.plan(0.0)
    assert third is not None
    assert third.works[0][:4] == ("a", 1, 0, (7,))  # another row
    late = scheduler.commit(second, Result([4], {"a": "later fault"}), 0.0)
    assert late == [Scheduled("a", 0.0, 0)]
    assert scheduler.commit(third, Result([5]), 0.0) == [Token("a", 5)]
    scheduler.check()


TIGHT = replace(CONFIG, num_blocks=4, max_model_len=24)


def test_nobody_gives_way_before_it_is_known_who_needs_a_block() -> None:
    harness = Harness(TIGHT)
    harness.submit(Request("a", range(6), 9))
    harness.submit(Request("b", range(50, 56), 9))
    while len(harness.outputs["a"]) < 2:
        harness.step()  # both have 8 tokens: the next step fills both tables
    planned(harness)
    before = harness.scheduler.stats()
    assert harness.plan() is None
    assert harness.scheduler.stats() == before
    harness.commit()
    step = planned(harness)
    assert step.preempted == ("b",)
    harness.run()
    assert harness.requests["b"].preemptions == 1


def test_the_last_free_block_is_used_ahead() -> None:
    harness = Harness(replace(TIGHT, num_blocks=5))
    harness.submit(Request("a", range(6), 9))
    harness.submit(Request("b", range(50, 55), 9))
    while len(harness.outputs["a"]) < 2:
        harness.step()
    planned(harness)
    works = planned(harness).works  # only `a` needs one
    assert [len(work.new_blocks) for work in works] == [1, 0]
    harness.commit()
    assert harness.plan() is None  # now `b` would
    harness.commit()
    harness.run()


def test_a_block_is_offered_when_the_step_that_filled_it_is_done() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(8), 9))
    planned(harness)
    harness.submit(Request("b", range(8), 1))
    assert planned(harness).works[1].start == 0  # nothing is known of the first step
    harness.commit()
    harness.submit(Request("c", range(9), 1))
    assert planned(harness).works[-1].start == 8
    harness.commit()
    assert harness.end("b") is not None
    harness.run()


def test_blocks_that_fill_up_ahead_are_offered_while_their_sequence_runs() -> None:
    harness = Harness(CONFIG, depth=2)
    first = harness.submit(Request("a", range(3), 30))
    while first.total < 14:
        harness.step()
    harness.submit(Request("b", [*first.tokens, 1], 1))
    harness.run()
    assert harness.end("b") == Finished("b", "length", None, 12, 0)


@pytest.mark.parametrize("depth", [1, 2])
def test_callers_pay_while_they_run(depth: int) -> None:
    """What `x` is given in one row, block by block, lets `y` go first in the other."""
    harness = Harness(replace(CONFIG, max_batch_size=2, policy="fair"), depth)
    harness.submit(Request("x", [1], 60, caller="x"))
    for _ in range(8):
        harness.step()
    for caller in "yyyyx":
        number = len(harness.requests)
        harness.submit(Request(f"{caller}{number}", [number], 1, caller=caller))
    served: list[str] = []
    while harness.scheduler.has_work:
        step = harness.step()
        assert step is not None
        served += [work.request_id for work in step.works if work.first]
    assert served == ["y1", "y2", "y3", "y4", "x5"]


def test_a_slot_is_loaded_for_a_step_that_is_planned_ahead() -> None:
    harness = Harness(replace(CONFIG, max_adapters=1, adapter_turn=0))
    harness.submit(Request("a", [1], 2, adapter="p"))
    assert planned(harness).slot_loads == ((0, "p"),)
    harness.submit(Request("b", [2], 2, adapter="q"))
    assert [work.request_id for work in planned(harness).works] == ["a"]  # `p` is in use
    harness.commit()
    assert harness.plan() is None
    assert not harness.scheduler.forget_adapter("p")
    harness.commit()
    assert planned(harness).slot_loads == ((0, "q"),)
    harness.run()


def test_an_adapter_is_held_by_who_ended_in_flight() -> None:
    harness = Harness(replace(CONFIG, max_adapters=1))
    harness.submit(Request("a", [1], 9, adapter="p"))
    planned(harness)
    planned(harness)
    harness.abort("a")
    for _ in range(2):
        assert not harness.scheduler.forget_adapter("p")
        harness.commit()
    assert harness.scheduler.forget_adapter("p")


def test_memory_is_not_forgotten_under_a_step_in_flight() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1], 9))
    planned(harness)
    harness.abort("a")
    with pytest.raises(AssertionError, match="in flight"):
        harness.scheduler.forget_all()
    harness.commit()
    harness.scheduler.forget_all()
