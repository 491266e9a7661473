"""Steps from the scheduler through the runner; the next one is begun before a step is finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from inferd.engines.native.runner import Flight, Outcome, Runner
from inferd.engines.native.sequences import Sequence
from inferd_scheduler import Event, Scheduler, Step


class Turn(NamedTuple):
    """A step that is done: what the scheduler and the runner say of it."""

    events: list[Event]
    outcome: Outcome
    now: float  # seconds


class Pipeline:
    """Runs the scheduler's steps, one per turn.

    With `ahead` the forward pass of the next step is launched, behind the choice of this one's
    tokens on the device, before the host has seen those tokens. So the device works on while the
    host takes them in, tells of them, computes masks and plans. Penalties and masks need no special
    case: tokens are chosen when the step before is finished, and only the forward pass comes early.

    Where something went wrong in a step, the next is not planned before that is known.

    Args:
        fill_slots: puts what a step needs into slots; what went wrong, by slot.
        clock: seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        fill_slots: Callable[[Step], dict[int, Exception]],
        clock: Callable[[], float],
        *,
        ahead: bool,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._fill_slots = fill_slots
        self._clock = clock
        self._ahead = ahead
        self._flight: Flight | None = None
        self._missing: list[str] = []  # adapters that are not in the slots that they were given

    @property
    def in_flight(self) -> bool:
        """Whether a step is, between two turns."""
        return self._flight is not None

    def holds(self, sequence: Sequence) -> bool:
        """Whether it is in the step in flight."""
        return self._flight is not None and any(one is sequence for one in self._flight.sequences)

    def turn(self) -> Turn | None:
        """Bring a step to its end; None if there is none."""
        flight, self._flight = self._flight or self._begin(), None
        if flight is None:
            return None
        self._runner.sample(flight)
        if self._ahead and not flight.outcome.failed:
            self._flight = self._begin()
        return self._finish(flight)

    def drain(self) -> None:
        """Finish the step in flight, if any, when all that were in it have ended."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._runner.sample(flight)
            events = self._finish(flight).events
            assert not events, "somebody is left in the step in flight"

    def _begin(self) -> Flight | None:
        step = self._scheduler.plan(self._clock())
        if step is None:
            return None
        wrong = self._fill_slots(step)
        flight = self._runner.begin(step)
        for work in step.works if wrong else ():
            if work.slot in wrong:
                why = f"filling slot {work.slot}: {wrong[work.slot]!r}"
                flight.outcome.fail(work.request_id, why)
        self._missing += [adapter for slot, adapter in step.slot_loads if slot in wrong]
        return flight

    def _finish(self, flight: Flight) -> Turn:
        outcome = self._runner.finish(flight)
        now = self._clock()
        events = self._scheduler.commit(flight.step, outcome.result(flight.step), now)
        forget = self._scheduler.forget_adapter  # it does not while the step is in flight
        self._missing = [adapter for adapter in self._missing if not forget(adapter)]
        return Turn(events, outcome, now)
