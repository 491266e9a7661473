"""Points in time as clients write them."""

from __future__ import annotations

import pytest

from inferd.errors import InvalidRequest
from inferd.web.deploy.period import period, point

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", NOW),
        ("now-5h", NOW - 5 * 3600),
        ("now-90s", NOW - 90),
        ("now-2w", NOW - 14 * 86400),
        ("1699999000", 1699999000),
        ("1699999000.25", 1699999000.25),
        ("1699999000250", 1699999000.25),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
    ],
)
def test_a_point(text: str, time: float) -> None:
    assert point(text, NOW, "from") == time


@pytest.mark.parametrize("text", ["", "yesterday", "now-5", "now+5h", "-5", "١", "9" * 40, "nan"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(InvalidRequest, match="`from`"):
        point(text, NOW, "from")


def test_an_hour_by_default() -> None:
    assert period(None, None, NOW) == (NOW - 3600, NOW)
    assert period(None, "now-1d", NOW) == (NOW - 90_000, NOW - 86_400)


def test_it_ends_after_it_begins() -> None:
    with pytest.raises(InvalidRequest, match="`from`"):
        period("now", "now-1h", NOW)
