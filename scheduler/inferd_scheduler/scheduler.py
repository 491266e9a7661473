"""The scheduler: which sequences advance by how many tokens in the next step."""

from __future__ import annotations

from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.events import Event
from inferd_scheduler.request import Request
from inferd_scheduler.stats import Stats
from inferd_scheduler.step import Result, Step


class Scheduler:
    """Continuous batching over a paged KV cache. Times are seconds on any one clock.

    The order of calls: `plan` then `commit` of the same step, at most one step in flight;
    `submit` and `abort` at any moment.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config

    def submit(self, request: Request, now: float) -> None:
        """Accept a new request. Raises `Refused`, and then nothing has changed."""
        raise RuntimeError("under construction")

    def abort(self, request_id: str, now: float) -> list[Event]:
        """End a request now: its `Finished`, or nothing if the id is unknown (it just ended)."""
        raise RuntimeError("under construction")

    def plan(self, now: float) -> Step | None:
        """The next step; None if nothing can run, which means that nothing waits either."""
        raise RuntimeError("under construction")

    def commit(self, step: Step, result: Result, now: float) -> list[Event]:
        """Take in what the engine computed for the step in flight; events in order of cause."""
        raise RuntimeError("under construction")

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""

    def stats(self) -> Stats:
        """A snapshot for metrics."""
        raise RuntimeError("under construction")

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs, that is, whether `plan` would return a step."""
        return False
