"""A share is exact at every moment, not on average."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferd.adapters.share import Share


@given(st.integers(1, 10**8), st.integers(1, 500))
def test_after_any_number_of_questions_the_share_is_exact(parts: int, asked: int) -> None:
    share = Share(parts / 10**6)
    picked = sum(share.next() for _ in range(asked))
    assert picked == asked * parts // 10**8


def test_what_is_picked_is_spread_evenly() -> None:
    share = Share(30)
    picked = "".join(".x"[share.next()] for _ in range(20))
    assert picked == "...x..x..x...x..x..x"
