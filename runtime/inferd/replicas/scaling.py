"""How many replicas there ought to be: a pure function of load and time, with hysteresis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decision = Literal["stay", "up", "down", "sleep", "sleep_deeply"]


@dataclass(frozen=True)
class Limits:
    """Seconds, but for `low` and `max_failures`."""

    up_s: float = 5.0  # requests wait for so long: one replica more
    down_s: float = 60.0  # one replica fewer would do, for so long
    low: float = 0.5  # … with its batches at most so full
    idle_s: float = 300.0  # without a request: sleep at level 1, where no instance must stay
    deep_s: float = 1800.0  # asleep at level 1: go on to level 2
    wake_s: float = 120.0  # so long a request waits for a replica
    retry_s: float = 10.0  # after a start that failed; doubles with each in a row
    retry_max_s: float = 300.0
    max_failures: int = 5  # so many in a row, and the model has failed; it is tried on
    tick_s: float = 1.0  # between two looks at the load

    def retry_after(self, failures: int) -> float:
        """Until the next start, after so many that failed before this one."""
        return min(self.retry_s * 2.0 ** min(failures, 30), self.retry_max_s)


@dataclass(frozen=True)
class Load:
    """What is decided by. Counts of replicas and of requests."""

    ready: int
    pending: int  # starting or waking
    asleep: int
    in_flight: int
    queued: int  # waiting inside engines
    batch: int  # requests that one replica runs at once
    idle_s: float  # since the last request opened or ended; seconds


class Scaler:
    """Remembers since when the load has been high or low."""

    def __init__(self, limits: Limits, minimum: int, maximum: int) -> None:
        self._limits = limits
        self.minimum = minimum
        self.maximum = maximum
        self._high_since: float | None = None
        self._low_since: float | None = None

    def decide(self, load: Load, now: float) -> Decision:
        """What to do now; `now` is in seconds and never falls."""
        self._high_since = _since(self._high_since, load.queued > 0, now)
        self._low_since = _since(self._low_since, self._is_low(load), now)
        if load.pending:
            return "stay"
        if not load.ready:
            return self._asleep(load)
        if load.ready > max(1, self.maximum):
            return "down"
        if self._is_idle(load):
            return "sleep"
        if load.ready < self.minimum or self._lasted(self._high_since, self._limits.up_s, now):
            self._high_since = None  # the next one needs as long again
            return "up" if load.ready < self.maximum else "stay"
        if self._lasted(self._low_since, self._limits.down_s, now):
            self._low_since = None
            return "down"
        return "stay"

    def _asleep(self, load: Load) -> Decision:
        """Who sleeps wakes on demand; who died comes back by itself."""
        if not load.asleep:
            return "up" if self.minimum else "stay"
        deep = load.idle_s >= self._limits.idle_s + self._limits.deep_s
        return "sleep_deeply" if deep else "stay"

    def _is_idle(self, load: Load) -> bool:
        idle = load.in_flight == 0 and load.idle_s >= self._limits.idle_s
        return idle and self.minimum == 0

    def _is_low(self, load: Load) -> bool:
        """Whether one replica fewer would do."""
        fewer = load.ready - 1
        enough = load.in_flight <= fewer * load.batch * self._limits.low
        return fewer >= max(1, self.minimum) and not load.queued and enough

    def _lasted(self, since: float | None, seconds: float, now: float) -> bool:
        return since is not None and now - since >= seconds


def _since(since: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if since is None else since
