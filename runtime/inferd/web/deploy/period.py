"""Points in time as DeepInfra's clients write them: `now`, `now-5h`, Unix time, ISO 8601."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from inferd.errors import InvalidRequest

_RELATIVE = re.compile(r"now(?:-(\d{1,9})([smhdw]))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MILLISECONDS_FROM = 10**11  # Unix times from there on are not seconds; the year 5138


def point(text: str, now: float, param: str) -> float:
    """Unix time in seconds. Raises `InvalidRequest`, naming `param`.

    Args:
        now: Unix time in seconds.
    """
    if relative := _RELATIVE.fullmatch(text):
        count, unit = relative.groups()
        return now - int(count) * _SECONDS[unit] if count else now
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number / 1000 if number >= _MILLISECONDS_FROM else number
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"`{param}` must be like `now-5h`, a Unix time or an ISO 8601 date", param
        ) from None


def period(since: str | None, until: str | None, now: float) -> tuple[float, float]:
    """From when to when; the last hour by default. Raises `InvalidRequest`."""
    end = point(until or "now", now, "to")
    begin = point(since, now, "from") if since else end - 3600
    if begin > end:
        raise InvalidRequest("`from` must not be later than `to`", "from")
    return begin, end
