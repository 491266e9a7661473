"""The checking engine itself: it must notice each kind of wrong step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferd_scheduler import Request, SchedulerConfig, Step, Work
from inferd_scheduler.testing import CheckedEngine, digests, expected_output, next_token

CONFIG = SchedulerConfig(
    max_batch_size=2, max_batch_tokens=8, num_blocks=4, block_size=2, max_model_len=8
)
PREFILL = Work("a", 0, 0, (1, 2, 3), (0, 1), True, True)


def engine() -> CheckedEngine:
    made = CheckedEngine(CONFIG)
    made.expect(Request("a", [1, 2, 3], 4))
    made.expect(Request("b", [1, 2, 9], 4))
    return made


def test_tokens_are_a_pure_function_of_the_prefix() -> None:
    request = Request("a", [1, 2, 3], 4)
    first, second = expected_output(request, 99)[:2]
    made = engine()
    assert made.run(Step(1, [PREFILL], 3)).tokens == [first]
    assert made.run(Step(2, [Work("a", 0, 3, (first,), (), True, False)], 1)).tokens == [second]


def test_a_prefix_may_be_read_from_another_sequence_s_block() -> None:
    made = engine()
    made.run(Step(1, [PREFILL], 3))
    result = made.run(Step(2, [Work("b", 1, 2, (9,), (0, 2), True, True)], 1))
    assert result.tokens[0] is not None


@pytest.mark.parametrize(
    "work",
    [
        Work("b", 1, 2, (9,), (1, 2), True, True),  # a block with something else in it
        Work("b", 1, 0, (1, 2, 9), (0,), True, True),  # too few blocks
        Work("b", 0, 0, (1, 2, 9), (2, 3), True, False),  # somebody else's row
        Work("b", 1, 0, (1, 2), (2, 3), True, True),  # samples too early
        Work("b", 1, 0, (1, 2, 8), (2, 3), True, True),  # wrong tokens
        Work("b", 2, 0, (1, 2, 9), (2, 3), True, True),  # no such row
        Work("a", 0, 2, (3,), (), True, False),  # computed already
    ],
)
def test_a_wrong_work_is_noticed(work: Work) -> None:
    made = engine()
    made.run(Step(1, [PREFILL], 3))
    with pytest.raises((AssertionError, IndexError)):
        made.run(Step(2, [work], len(work.tokens)))


def test_a_block_that_another_sequence_overwrote_is_noticed() -> None:
    made = engine()
    token = made.run(Step(1, [PREFILL], 3)).tokens[0]
    assert token is not None
    made.run(Step(2, [Work("b", 1, 0, (1, 2, 9), (2, 1), True, True)], 3))
    with pytest.raises(AssertionError, match="wrong KV"):
        made.run(Step(3, [Work("a", 0, 3, (token,), (), True, False)], 1))


def test_garbage_of_a_failed_work_is_noticed_by_who_reads_it() -> None:
    made = engine()
    assert made.run(Step(1, [PREFILL], 3), failing=["a"]).failed == {"a": "poisoned"}
    with pytest.raises(AssertionError, match="wrong KV"):
        made.run(Step(2, [Work("b", 1, 2, (9,), (0, 2), True, True)], 1))


def test_a_step_over_the_budget_or_out_of_order_is_noticed() -> None:
    with pytest.raises(AssertionError):
        engine().run(Step(2, [PREFILL], 3))
    with pytest.raises(AssertionError):
        engine().run(Step(1, [PREFILL], 2))
    small = CheckedEngine(replace(CONFIG, max_batch_tokens=2))
    small.expect(Request("a", [1, 2, 3], 4))
    with pytest.raises(AssertionError):
        small.run(Step(1, [PREFILL], 3))


def test_digests_depend_on_every_token_and_on_the_root() -> None:
    assert len({digests(root, [a, 5])[-1] for root in (1, 2) for a in (1, 2)}) == 4
    assert 0 <= next_token(2**64 - 1) < 50
