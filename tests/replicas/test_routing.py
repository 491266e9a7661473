"""Which replica takes a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferd.messages import Sampling, Submit
from inferd.replicas.routing import Recent, choose, marks_of

SLACK = 4.0


@dataclass
class Busy:
    in_flight: int
    recent: Recent = field(default_factory=Recent)


def prompt(*tokens: int, adapter: str = "", salt: str = "") -> Submit:
    return Submit("a", tokens, 1, Sampling(), adapter=adapter, cache_salt=salt)


def test_the_least_busy_takes_it_and_of_equals_the_first() -> None:
    assert choose([Busy(2), Busy(1), Busy(1)], (), "", SLACK) == 1


def test_one_that_knows_the_beginning_takes_it_unless_it_is_much_busier() -> None:
    marks = marks_of(prompt(*range(40)), 16)
    knows = Busy(3)
    knows.recent.note(marks, "")
    assert choose([Busy(0), knows], marks, "", SLACK) == 1
    knows.in_flight = 4
    assert choose([Busy(0), knows], marks, "", SLACK) == 0


def test_the_one_that_knows_more_of_it_takes_it() -> None:
    long = prompt(*range(200))
    some, more = Busy(0), Busy(3)
    some.recent.note(marks_of(prompt(*range(20)), 16), "")
    more.recent.note(marks_of(prompt(*range(100)), 16), "")
    assert choose([some, more], marks_of(long, 16), "", SLACK) == 1


def test_one_that_ran_the_adapter_is_preferred_to_equals() -> None:
    ran = Busy(1)
    ran.recent.note((), "one")
    assert choose([Busy(0), ran], (), "one", SLACK) == 1
    assert choose([Busy(0), ran], (), "two", SLACK) == 0
    ran.in_flight = 2
    assert choose([Busy(0), ran], (), "one", SLACK) == 0


def test_beginnings_are_told_apart_by_what_keeps_their_kv_apart() -> None:
    same = marks_of(prompt(*range(32)), 16)
    assert len(same) == 2
    assert marks_of(prompt(*range(32), 99), 16) == same
    for other in (
        prompt(*range(32), adapter="one"),
        prompt(*range(32), salt="tenant"),
        prompt(*range(1, 33)),
    ):
        assert not set(marks_of(other, 16)) & set(same)
    assert marks_of(prompt(1, 2), 16) == ()


def test_what_was_seen_long_ago_is_forgotten() -> None:
    recent = Recent()
    recent.note((1,), "one")
    for mark in range(2, 10_000):
        recent.note((mark,), f"adapter {mark}")
    assert recent.depth((1,)) == 0
    assert recent.depth((9_999,)) == 1
    assert not recent.ran("one")
    recent.clear()
    assert recent.depth((9_999,)) == 0
