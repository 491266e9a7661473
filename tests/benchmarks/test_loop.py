"""What the runners share: the window that counts as decoding, and prompts."""

from __future__ import annotations

from benchmarks.peers.runners.loop import Window, prompt


def test_the_window_opens_when_the_last_sequence_has_begun() -> None:
    window = Window(tokens=4, seconds=9)
    assert not window.note([1, 0], 10.0)
    assert not window.note([2, 1], 11.0)
    assert not window.note([3, 2], 12.0)
    assert window.tokens == 2
    assert window.seconds == 1.0


def test_it_closes_when_the_first_has_all_its_tokens() -> None:
    window = Window(tokens=4, seconds=9)
    window.note([3, 1], 10.0)
    assert window.note([4, 2], 10.5)
    assert (window.tokens, window.seconds) == (2, 0.5)


def test_it_closes_when_the_time_is_up() -> None:
    window = Window(tokens=100, seconds=2)
    window.note([1], 10.0)
    assert not window.note([2], 11.9)
    assert window.note([3], 12.0)


def test_a_step_that_begins_all_counts_for_nothing() -> None:
    window = Window(tokens=2, seconds=0)
    assert not window.note([5, 5], 10.0)
    assert (window.tokens, window.seconds) == (0, 0.0)


def test_prompts_depend_on_their_seed_and_never_end_a_text() -> None:
    assert prompt(50, 20, seed=1) == prompt(50, 20, seed=1) != prompt(50, 20, seed=2)
    assert max(prompt(3, 500, seed=1)) == 1
