"""What a model's replicas failed of, when the next may be tried, and whether there is hope."""

from __future__ import annotations

from collections.abc import Callable

from inferd.errors import StartError, Unavailable
from inferd.replicas.scaling import Limits


class Failures:
    """Those in a row, until one replica came up.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.reason: StartError | None = None
        self.final = False  # there were too many
        self._limits = limits
        self._clock = clock
        self._count = 0
        self._retry_at = 0.0

    @property
    def may_retry(self) -> bool:
        return self._clock() >= self._retry_at

    def note(self, error: StartError, *, final: bool = False) -> None:
        """One more. What lacked memory was others' fault, and may soon pass."""
        self.reason = error
        self._retry_at = self._clock() + self._limits.retry_after(self._count)
        if error.code != "out_of_memory":
            self._count += 1
        self.final = final or self._count > self._limits.max_failures

    def clear(self) -> None:
        self.reason, self.final, self._count, self._retry_at = None, False, 0, 0.0

    def told(self) -> Unavailable:
        """What a request is told that could not be served for it."""
        assert self.reason is not None
        message = f"The model could not be started: {self.reason.message}"
        wait = max(1.0, self._retry_at - self._clock())
        return Unavailable(message, retry_after=wait, log=str(self.reason))
