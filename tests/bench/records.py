"""Requests as they might have gone."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from inferd.bench.record import Record


def record(
    index: int = 0,
    *,
    scheduled: float = 0.0,
    sent: float | None = None,
    arrivals: Sequence[float] = (0.1, 0.2, 0.3),
    ended: float | None = None,
    tokens: int | None = None,
    prompt: int | None = 10,
    error: str = "",
    message: str = "",
) -> Record:
    """One that ended well, unless it has an `error`. By default an event is a token."""
    made = Record(index, scheduled, scheduled if sent is None else sent)
    made.arrivals = array("d", arrivals)
    made.ended = ended if ended is not None else arrivals[-1] if arrivals else made.sent
    made.prompt_tokens, made.asked_input = prompt, 10
    made.output_tokens = len(arrivals) if tokens is None else tokens
    made.asked_output = made.output_tokens
    made.error, made.message = error, message
    return made
