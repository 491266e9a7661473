"""A request's states and what it derives from its tokens."""

from __future__ import annotations

import pytest

from inferd_scheduler import Request, State
from inferd_scheduler.request import MOVES, TERMINAL, Move


def test_every_state_is_reached_and_the_terminal_ones_are_final() -> None:
    assert {State.NEW, *MOVES.values()} == set(State)
    assert {state for state, _ in MOVES} == set(State) - TERMINAL


@pytest.mark.parametrize("state", sorted(TERMINAL, key=str))
def test_an_illegal_move_is_an_error(state: State) -> None:
    request = Request("a", [1], 1)
    request.state = state
    for move in Move:
        with pytest.raises(KeyError):
            request.move(move)


def test_counts_are_derived_from_the_tokens() -> None:
    request = Request("a", (1, 2, 3), 9, output=[4, 5])
    assert (request.total, request.num_prompt, request.num_output) == (5, 3, 2)
    assert (request.prompt, request.output) == ([1, 2, 3], [4, 5])
    assert (request.pending, request.computed) == (5, 0)
    request.pending = 1
    request.tokens.append(6)
    assert (request.total, request.computed, request.num_output) == (6, 5, 3)


def test_a_stop_token_counts_only_in_the_output_and_from_min_tokens_on() -> None:
    request = Request("a", [7], 9, stop_token_ids=[7], min_tokens=2)
    stopped = []
    for _ in range(3):
        stopped.append(request.stopped)
        request.tokens.append(7)
    assert stopped == [False, False, True]


def test_reuse_is_allowed_once_the_prompt_was_computed_here() -> None:
    request = Request("a", [1], 9, output=[2], reuse_prefix=False)
    before = request.may_reuse
    request.tokens.append(3)
    assert (before, request.may_reuse) == (False, True)
    assert Request("b", [1], 9).may_reuse
