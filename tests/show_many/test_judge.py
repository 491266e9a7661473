"""The show's judge: it must see what is lost and what is stale, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.show_many.judge import Answer, Judge
from benchmarks.show_many.names import BARE, Names

TEXTS = {("base", "p"): "bare", ("one", "p"): "first", ("two", "p"): "second"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def judge(clock: Clock) -> Judge:
    """`name` meant `one` at first, `two` from [10, 11] on, and nothing from [20, 21] on."""
    names = Names(clock)
    names.begin("base", BARE)
    names.begin("name", "one")
    for at, value in ((10.0, "two"), (20.0, None)):
        clock.now = at
        with names.changing("name", value):
            clock.now = at + 1
    return Judge(names, TEXTS)


def answer(sent: float, answered: float, generation: str, *texts: str, **more: Any) -> Answer:
    fields: dict[str, Any] = {"model": "name", "status": 200, "texts": texts} | more
    return Answer(prompt="p", sent=sent, answered=answered, generation=generation, **fields)


@pytest.mark.parametrize(
    ("sent", "answered", "generation", "text"),
    [
        (1, 2, "one", "first"),
        (9, 10.5, "one", "first"),  # while it changes, either is right
        (9, 10.5, "two", "second"),
        (10.5, 12, "one", "first"),
        (11, 12, "two", "second"),
        (19, 30, "two", "second"),
    ],
)
def test_what_is_right(
    judge: Judge, sent: float, answered: float, generation: str, text: str
) -> None:
    judge.hear(answer(sent, answered, generation, text, text))
    assert (judge.right, judge.lost, judge.stale) == (1, [], [])


@pytest.mark.parametrize(
    ("sent", "answered", "generation", "text"),
    [
        (11, 12, "one", "first"),  # the swap was over before it was sent
        (1, 2, "two", "second"),
        (1, 2, "", "bare"),
        (1, 2, "one", "second"),  # what it says is not what its name says
        (1, 2, "one", "firs"),
    ],
)
def test_what_is_stale(
    judge: Judge, sent: float, answered: float, generation: str, text: str
) -> None:
    judge.hear(answer(sent, answered, generation, text))
    assert judge.right == 0
    assert len(judge.stale) == 1


def test_one_choice_of_several_is_enough_to_be_stale(judge: Judge) -> None:
    judge.hear(answer(1, 2, "one", "first", "second"))
    assert len(judge.stale) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"status": 500},
        {"status": 503},
        {"status": 0, "trouble": "the connection broke"},
        {"status": 404},  # it was there
        {"trouble": "the stream broke off"},
    ],
)
def test_what_is_lost(judge: Judge, more: dict[str, Any]) -> None:
    judge.hear(answer(1, 2, "one", **more))
    assert judge.right == 0
    assert len(judge.lost) == 1


def test_who_asks_for_what_was_unloaded_is_refused(judge: Judge) -> None:
    judge.hear(answer(20.5, 22, "", status=404))
    assert (judge.unloaded, judge.lost) == (1, [])


def test_a_client_that_leaves_is_no_loss(judge: Judge) -> None:
    judge.hear(answer(1, 2, "one", texts=None))
    assert (judge.left, judge.lost, judge.total) == (1, [], 1)
    judge.hear(answer(11, 12, "one", texts=None))
    assert len(judge.stale) == 1


def test_a_base_is_no_adapter(judge: Judge) -> None:
    judge.hear(answer(1, 2, "", "bare", model="base"))
    judge.hear(answer(1, 2, "one", "first", model="base"))
    assert (judge.right, len(judge.stale)) == (1, 1)
