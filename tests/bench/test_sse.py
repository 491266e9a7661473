"""Events are the same however their bytes were cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.bench.sse import EventReader

BODY = (
    b': a comment\n\ndata: {"a": 1}\n\nevent: named\nid: 7\ndata:two\r\n\r\n'
    b"data: first\ndata: second\n\nretry: 10\n\ndata: \n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b"two", b"first\nsecond", b"", b"[DONE]"]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(BODY)), max_size=20))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    reader, events, last = EventReader(), [], 0
    for cut in [*sorted(cuts), len(BODY)]:
        events += reader.feed(BODY[last:cut])
        last = cut
    assert events == EVENTS
    assert not reader.incomplete


@pytest.mark.parametrize("body", [b"data: x", b"data: x\n", b"data: x\n\ndat"])
def test_a_body_that_ends_within_an_event(body: bytes) -> None:
    reader = EventReader()
    reader.feed(body)
    assert reader.incomplete
