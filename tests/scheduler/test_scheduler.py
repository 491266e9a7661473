"""The scheduler step by step: what is planned, told and refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferd_scheduler import (
    Failed,
    Finished,
    Preempted,
    Refused,
    Request,
    Result,
    Scheduled,
    SchedulerConfig,
    Token,
)
from tests.scheduler.harness import Harness

CONFIG = SchedulerConfig(
    max_batch_size=4, max_batch_tokens=16, num_blocks=32, block_size=4, max_model_len=64
)


def test_a_request_runs_from_prompt_to_length() -> None:
    harness = Harness(CONFIG)
    harness.now = 5.0
    harness.submit(Request("a", [1, 2, 3], 2))
    harness.now = 7.0
    step = harness.plan()
    assert step is not None
    assert step.works[0] == ("a", 0, 0, (1, 2, 3), (0,), True, True, -1)
    events = harness.commit()
    first = harness.outputs["a"][0]
    assert events == [Scheduled("a", 2.0, 0), Token("a", first)]
    step = harness.plan()
    assert step is not None
    assert step.works[0] == ("a", 0, 3, (first,), (), True, False, -1)
    assert harness.commit() == [
        Token("a", harness.outputs["a"][1]),
        Finished("a", "length", None, 0, 0),
    ]
    assert harness.plan() is None


def test_a_block_is_added_in_the_step_that_needs_it() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1] * 4, 6))
    blocks = []
    while (step := harness.step()) is not None:
        blocks.append(step.works[0].new_blocks)
    assert [len(new) for new in blocks] == [1, 1, 0, 0, 0, 1]


def test_a_long_prompt_is_computed_in_chunks_beside_decodes() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("short", [1], 8))
    harness.step()
    harness.submit(Request("long", range(40), 1))
    shapes = []
    for _ in range(3):
        step = harness.step()
        assert step is not None
        shapes.append([(w.request_id, w.start, len(w.tokens), w.samples) for w in step.works])
    assert shapes == [
        [("short", 1, 1, True), ("long", 0, 15, False)],
        [("short", 2, 1, True), ("long", 15, 15, False)],
        [("short", 3, 1, True), ("long", 30, 10, True)],
    ]


def test_stop_tokens_end_a_sequence_but_not_before_min_tokens() -> None:
    harness = Harness(CONFIG)
    free = harness.submit(Request("free", [5], 12))
    harness.run()
    stop = free.output[2]
    assert stop not in free.output[:2]
    harness.submit(Request("stops", [5], 12, stop_token_ids={stop}))
    harness.submit(Request("later", [5], 12, stop_token_ids={stop}, min_tokens=4))
    harness.run()
    assert harness.end("stops") == Finished("stops", "stop", stop, 0, 0)
    assert len(harness.outputs["later"]) >= 4


def test_prompt_and_output_end_at_max_model_len() -> None:
    harness = Harness(replace(CONFIG, max_model_len=6))
    request = harness.submit(Request("a", [1, 2, 3], 100))
    harness.run()
    assert request.total == 6
    assert harness.end("a") == Finished("a", "length", None, 0, 0)


def test_generation_resumes_after_tokens_of_another_run() -> None:
    whole = Harness(CONFIG)
    full = whole.submit(Request("a", [1, 2, 3], 9))
    whole.run()
    resumed = Harness(CONFIG)
    request = resumed.submit(Request("a", [1, 2, 3], 9, output=full.output[:5]))
    resumed.run()
    assert request.tokens == full.tokens
    assert sum(isinstance(event, Token) for event in resumed.events["a"]) == 4


def test_a_later_request_reuses_the_prefix_and_one_token_is_left_to_compute() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(12), 1))
    harness.run()
    harness.submit(Request("b", range(12), 1))
    step = harness.step()
    assert step is not None
    assert step.works[0].start == 8  # not 12: the last block must be computed to sample
    assert harness.end("b") == Finished("b", "length", None, 8, 0)


@pytest.mark.parametrize(
    "other",
    [
        Request("b", range(12), 1, salt="tenant"),
        Request("b", range(12), 1, adapter="adapter-2"),
        Request("b", range(12), 1, reuse_prefix=False),
        Request("b", [9, *range(1, 12)], 1),
    ],
    ids=["salt", "adapter", "reuse_prefix", "tokens"],
)
def test_a_prefix_is_not_reused_when_it_must_not_be(other: Request) -> None:
    harness = Harness(replace(CONFIG, max_adapters=1))
    harness.submit(Request("a", range(12), 1))
    harness.run()
    harness.submit(other)
    step = harness.step()
    assert step is not None
    assert step.works[0].start == 0


def test_a_request_that_reuses_nothing_still_leaves_its_prefix_to_others() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(12), 1, reuse_prefix=False))
    harness.run()
    harness.submit(Request("b", range(12), 1))
    harness.run()
    assert harness.end("b") == Finished("b", "length", None, 8, 0)


def test_the_prefix_cache_can_be_off() -> None:
    harness = Harness(replace(CONFIG, prefix_cache=False))
    for name in "ab":
        harness.submit(Request(name, range(12), 1))
        harness.run()
    stats = harness.scheduler.stats()
    assert stats.num_cached_blocks == stats.total_prefix_queries == stats.total_prefix_hits == 0


def test_the_next_turn_of_a_conversation_finds_the_answer_in_the_cache() -> None:
    harness = Harness(CONFIG)
    first = harness.submit(Request("a", range(6), 10))
    harness.run()
    harness.submit(Request("b", [*first.tokens, 1, 2, 3], 1))
    harness.run()
    assert harness.end("b") == Finished("b", "length", None, 12, 0)  # 15 of 16 were computed


TIGHT = replace(CONFIG, num_blocks=6, max_model_len=24)


def test_the_last_to_arrive_gives_way_and_comes_back_without_losing_a_token() -> None:
    harness = Harness(TIGHT)
    harness.submit(Request("a", range(8), 12))
    harness.submit(Request("b", range(50, 58), 12))
    harness.run()
    assert harness.end("a") == Finished("a", "length", None, 0, 0)
    assert harness.end("b") == Finished("b", "length", None, 0, 1)
    assert Preempted("b") in harness.events["b"]
    assert harness.scheduler.stats().total_preemptions == 1


def test_recomputation_after_a_preemption_hits_the_prefix_cache() -> None:
    harness = Harness(TIGHT)
    harness.submit(Request("a", range(8), 6))
    harness.submit(Request("b", range(50, 58), 12))
    harness.run()
    b = harness.requests["b"]
    assert b.preemptions == 1
    assert harness.engine.computed_tokens["b"] < 2 * b.total - 8


def test_prompt_positions_are_all_computed_once_even_after_a_preemption() -> None:
    harness = Harness(TIGHT)
    harness.submit(Request("a", range(8), 12))
    harness.submit(Request("b", range(50, 58), 12, reuse_prefix=False))
    starts = []
    while (step := harness.step()) is not None:
        starts += [work.start for work in step.works if work.first and work.request_id == "b"]
    assert starts[0] == 0
    assert starts[1] > 0  # the prompt was scored: its cached KV may be used now


def test_priority_chooses_who_runs_first_and_who_gives_way() -> None:
    harness = Harness(replace(TIGHT, policy="priority"))
    harness.submit(Request("low", range(8), 12, priority=5))
    harness.submit(Request("high", range(50, 58), 12, priority=1))
    step = harness.step()
    assert step is not None
    assert [work.request_id for work in step.works] == ["high", "low"]
    harness.run()
    assert harness.requests["low"].preemptions == 1
    assert harness.requests["high"].preemptions == 0


def test_a_full_batch_is_not_preempted_by_priority() -> None:
    harness = Harness(replace(CONFIG, max_batch_size=1, policy="priority"))
    harness.submit(Request("low", [1], 5, priority=5))
    harness.step()
    harness.submit(Request("high", [2], 5, priority=1))
    harness.run()
    assert harness.requests["low"].preemptions == 0


def test_a_sequence_that_outgrows_the_pool_fails_alone() -> None:
    harness = Harness(replace(TIGHT, max_model_len=64))
    harness.submit(Request("big", range(20), 40))
    harness.submit(Request("small", [1], 3))
    harness.run()
    end = harness.end("big")
    assert isinstance(end, Failed)
    assert end.code == "capacity"
    assert len(harness.outputs["big"]) == 5  # 24 computed positions give 25 tokens
    assert isinstance(harness.end("small"), Finished)


def test_a_poisoned_sequence_is_ejected_and_the_batch_goes_on() -> None:
    harness = Harness(CONFIG)
    for name in ("a", "b", "c"):
        harness.submit(Request(name, range(8), 4))
    harness.plan()
    harness.commit(failing=["b"])
    harness.run()
    assert harness.end("b") == Failed("b", "engine", "poisoned")
    assert harness.outputs["b"] == []
    assert isinstance(harness.end("a"), Finished)
    assert isinstance(harness.end("c"), Finished)


def test_the_kv_of_a_failed_sequence_is_not_offered_to_others() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(9), 4))
    harness.step()
    assert harness.scheduler.stats().num_cached_blocks == 2
    harness.plan()
    harness.commit(failing=["a"])
    assert harness.scheduler.stats().num_cached_blocks == 0


def test_abort_while_waiting() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1], 4))
    assert harness.abort("a") == [Finished("a", "abort", None, 0, 0)]
    assert harness.abort("a") == []
    assert harness.run() == 0


def test_abort_while_running_frees_row_and_blocks_at_once() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(8), 4))
    harness.step()
    assert harness.abort("a") == [Finished("a", "abort", None, 0, 0)]
    assert harness.scheduler.stats().num_free_blocks == CONFIG.num_blocks
    assert harness.run() == 0


def test_the_row_of_a_finished_sequence_is_reused_and_marked_first() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1], 1))
    harness.submit(Request("b", [2], 9))
    harness.step()
    harness.submit(Request("c", [3], 1))
    step = harness.step()
    assert step is not None
    assert [(w.request_id, w.row, w.first) for w in step.works] == [("b", 1, False), ("c", 0, True)]


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (Request("", [1], 1), "invalid", "request_id"),
        (Request("taken", [1], 1), "invalid", "request_id"),
        (Request("a", [], 1), "invalid", "prompt"),
        (Request("a", [-1], 1), "invalid", "prompt"),
        (Request("a", [2**32], 1), "invalid", "prompt"),
        (Request("a", [1], 0), "invalid", "max_tokens"),
        (Request("a", [1], 2, output=[3, 4]), "invalid", "output"),
        (Request("a", [1], 9, output=[3, 4], stop_token_ids=[4]), "invalid", "output"),
        (Request("a", [1], 2, min_tokens=3), "invalid", "min_tokens"),
        (Request("a", range(64), 1), "too_long", "64 tokens"),
        (Request("a", range(60), 9, output=[1, 2, 3, 4]), "too_long", "64 tokens"),
    ],
)
def test_what_cannot_be_served_is_refused_and_changes_nothing(
    request_: Request, code: str, said: str
) -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("taken", [1], 3))
    before = harness.scheduler.stats()
    with pytest.raises(Refused, match=said) as refusal:
        harness.scheduler.submit(request_, 0.0)
    assert refusal.value.code == code
    assert harness.scheduler.stats() == before
    harness.run()


def test_a_prompt_that_the_pool_could_never_hold_is_refused() -> None:
    harness = Harness(replace(CONFIG, num_blocks=2))
    with pytest.raises(Refused, match="KV cache holds 8") as refusal:
        harness.submit(Request("a", range(9), 1))
    assert refusal.value.code == "too_long"
    harness.submit(Request("b", range(8), 1))
    harness.run()
    assert isinstance(harness.end("b"), Finished)


def test_a_request_is_submitted_once() -> None:
    harness = Harness(CONFIG)
    request = harness.submit(Request("a", [1], 1))
    harness.run()
    with pytest.raises(Refused, match="submitted before"):
        harness.scheduler.submit(request, 0.0)


def test_the_queue_is_bounded_by_requests_and_by_tokens() -> None:
    config = replace(CONFIG, max_batch_size=1, max_queue_requests=3, max_queue_tokens=20)
    harness = Harness(config)
    harness.submit(Request("longer than the bound, but alone", range(30), 2))
    with pytest.raises(Refused, match="30 tokens are waiting") as refusal:
        harness.submit(Request("b", [1], 1))
    assert refusal.value.code == "overloaded"
    harness.step()
    for name in "cde":
        harness.submit(Request(name, [1], 1))
    with pytest.raises(Refused, match="3 requests are waiting"):
        harness.submit(Request("f", [1], 1))
    harness.run()


def test_requests_that_a_free_row_awaits_do_not_fill_the_queue() -> None:
    harness = Harness(replace(CONFIG, max_queue_requests=1))
    for name in "abcde":  # four rows, and one that waits
        harness.submit(Request(name, [1], 4))
    with pytest.raises(Refused, match="5 requests are waiting"):
        harness.submit(Request("f", [1], 1))
    harness.step()
    with pytest.raises(Refused, match="1 requests are waiting"):
        harness.submit(Request("f", [1], 1))
    harness.run()


def test_out_of_order_calls_are_assertions() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", [1], 3))
    step = harness.plan()
    assert step is not None
    following = harness.plan()
    assert following is not None
    with pytest.raises(AssertionError, match="two steps are in flight"):
        harness.scheduler.plan(0.0)
    for wrong in (replace(step), following):
        with pytest.raises(AssertionError, match="not the first in flight"):
            harness.scheduler.commit(wrong, Result([1]), 0.0)
    with pytest.raises(AssertionError, match="per work"):
        harness.scheduler.commit(step, Result([]), 0.0)
    harness.commit()
    harness.commit()
    with pytest.raises(AssertionError, match="no step"):
        harness.scheduler.commit(step, Result([1]), 0.0)


def test_stats_count_what_happened() -> None:
    harness = Harness(CONFIG)
    harness.submit(Request("a", range(8), 2))
    stats = harness.scheduler.stats()
    assert (stats.num_waiting, stats.num_waiting_tokens, stats.num_running) == (1, 8, 0)
    harness.step()
    stats = harness.scheduler.stats()
    assert (stats.num_waiting, stats.num_running, stats.num_free_blocks) == (0, 1, 30)
    harness.run()
    stats = harness.scheduler.stats()
    assert (stats.total_steps, stats.total_tokens) == (2, 9)
    assert (stats.num_cached_blocks, stats.total_prefix_queries) == (2, 8)
