"""Windows of decoding, and the device's intervals."""

from __future__ import annotations

import pytest

from benchmarks.gpu.busy import covered
from benchmarks.gpu.engine import Run, Turn


def run(*tokens: int) -> Run:
    """A turn a second."""
    return Run(0.0, tuple(Turn(float(n + 1), count) for n, count in enumerate(tokens)))


def test_decoding_is_what_all_take_part_in_but_its_beginning() -> None:
    done = run(0, 1, 2, *[3] * 10, 2, 1)
    assert done.decoding(3) == (5.0, 5)
    assert done.decoding(3, 2) == (2.0, 2)
    assert done.tokens == 36
    assert done.seconds == 15.0


@pytest.mark.parametrize("tokens", [(3,), (1, 1, 1), (3, 3, 1, 3, 3, 3, 1, 3, 3, 3)])
def test_no_window_is_an_error(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no window"):
        run(*tokens).decoding(3)


def test_intervals_that_overlap_count_once() -> None:
    assert covered([]) == 0
    assert covered([(5, 6), (0, 2), (1, 3), (1, 1.5), (5, 6)]) == 4
