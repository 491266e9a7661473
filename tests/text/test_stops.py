"""Stop strings against a naive oracle, however the text is cut up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.text.stops import StopMatch, StopStrings, StopWatch

LETTERS = st.text("ab", min_size=1, max_size=4)
STOPS = st.lists(LETTERS, min_size=1, max_size=4)
PIECES = st.lists(st.text("abc", max_size=4), max_size=12)


def oracle(
    pieces: Sequence[str], stops: Sequence[str], unarmed: int, include: bool
) -> tuple[str, str | None]:
    """(text, stop): the first end of a stop behind the first `unarmed` pieces; longest first."""
    text = "".join(pieces)
    for end in range(len("".join(pieces[:unarmed])) + 1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            stop = max(hits, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


def run(
    pieces: Sequence[str], stops: Sequence[str], unarmed: int = 0, include: bool = False
) -> tuple[str, str | None]:
    watch = StopWatch(StopStrings(stops), include_stop=include)
    sent = ""
    for position, piece in enumerate(pieces):
        passed = watch.push(piece, armed=position >= unarmed)
        if isinstance(passed, StopMatch):
            return sent + passed.text, passed.stop
        sent += passed
    return sent + watch.flush(), None


@given(PIECES, STOPS, st.integers(0, 4), st.booleans())
def test_the_result_is_the_oracles(
    pieces: list[str], stops: list[str], unarmed: int, include: bool
) -> None:
    assert run(pieces, stops, unarmed, include) == oracle(pieces, stops, unarmed, include)


@given(PIECES, STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: list[str]) -> None:
    watch = StopWatch(StopStrings(stops))
    seen = sent = ""
    for piece in pieces:
        seen += piece
        passed = watch.push(piece)
        if isinstance(passed, StopMatch):
            break
        sent += passed
        held = seen.removeprefix(sent)
        assert seen == sent + held
        assert any(stop.startswith(held) for stop in stops)


def test_a_stop_across_tokens_leaves_no_trace() -> None:
    assert run(["ab", "STO", "P", "cd"], ["STOP"]) == ("ab", "STOP")


def test_a_beginning_that_comes_to_nothing_is_released() -> None:
    watch = StopWatch(StopStrings(["STOP"]))
    assert watch.push("a ST") == "a "
    assert watch.push("ART") == "START"
    assert watch.push(" S") == " "
    assert watch.flush() == "S"
    assert watch.flush() == ""


def test_text_behind_a_stop_in_the_same_piece_is_dropped() -> None:
    assert run(["one\n\ntwo"], ["\n\n"], include=True) == ("one\n\n", "\n\n")
    assert run(["one\n\ntwo"], ["\n\n"]) == ("one", "\n\n")


@pytest.mark.parametrize(("unarmed", "expected"), [(0, ("", "ab")), (1, ("ab", "ab"))])
def test_a_stop_before_min_tokens_is_text(unarmed: int, expected: tuple[str, str]) -> None:
    assert run(["ab", "ab"], ["ab"], unarmed) == expected


def test_no_stops_pass_everything() -> None:
    assert not StopStrings([])
    assert run(["a", "b"], []) == ("ab", None)


def test_many_long_stops_stay_linear() -> None:
    stops = ["a" * 1023 + chr(98 + i) for i in range(16)]
    assert run(["a" * 100_000], stops) == ("a" * 100_000, None)
