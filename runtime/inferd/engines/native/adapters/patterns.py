"""Regular expressions from an adapter's settings: matched within a bound of time.

Python's own `re` can be kept busy for years by a few characters, with the interpreter's lock held;
`regex` can be stopped, and gives up the lock where it is told that nobody changes the text.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import regex

from inferd.engines.native.adapters.unfit import invalid

MAX_CHARS = 2000  # of one expression
PATIENCE_S = 1.0  # for all matches of one adapter; everyday ones take milliseconds


class Patterns:
    """The expressions of one adapter, compiled once each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = PATIENCE_S
        self._compiled: dict[str, regex.Pattern[str]] = {}

    def match(self, field: str, pattern: str, text: str) -> regex.Match[str] | None:
        """At the beginning of `text`. Raises Unfit, naming the settings' `field`."""
        compiled = self._compile(field, pattern)
        began = self._clock()
        try:
            found = compiled.match(text, timeout=max(self._left, 1e-3), concurrent=True)
        except TimeoutError:
            self._left = 0.0
            raise invalid(f"{field}: the expression {pattern!r} takes too long to match") from None
        self._left -= self._clock() - began
        return found

    def _compile(self, field: str, pattern: str) -> regex.Pattern[str]:
        if pattern not in self._compiled:
            if len(pattern) > MAX_CHARS:
                raise invalid(f"{field}: an expression has more than {MAX_CHARS} characters")
            try:
                self._compiled[pattern] = regex.compile(pattern)
            except (regex.error, RecursionError, OverflowError) as error:
                message = f"{field}: {pattern!r} is not a regular expression: {error}"
                raise invalid(message) from None
        return self._compiled[pattern]
