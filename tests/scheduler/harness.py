"""Runs a scheduler against the engine that checks everything, and collects what it tells."""

from __future__ import annotations

from collections.abc import Collection

from inferd_scheduler import (
    Event,
    Failed,
    Finished,
    Preempted,
    Request,
    Scheduled,
    Scheduler,
    SchedulerConfig,
    Step,
    Token,
)
from inferd_scheduler.testing import CheckedEngine, expected_output


class Harness:
    """`check()` after every operation; every event is checked against the request's history.

    `depth`: how many steps `step` and `run` have in flight.
    """

    def __init__(self, config: SchedulerConfig, depth: int = 1) -> None:
        self.config = config
        self.depth = depth
        self.scheduler = Scheduler(config)
        self.engine = CheckedEngine(config)
        self.now = 0.0
        self.flights: list[Step] = []
        self.held: dict[int, list[int]] = {}  # row → its block table
        self.writes: list[dict[int, str]] = []  # block → who writes there, per step in flight
        self.requests: dict[str, Request] = {}
        self.expected: dict[str, list[int]] = {}
        self.outputs: dict[str, list[int]] = {}
        self.events: dict[str, list[Event]] = {}

    @property
    def flight(self) -> Step | None:
        """The step to be committed next."""
        return self.flights[0] if self.flights else None

    @property
    def open(self) -> list[str]:
        """Ids of accepted requests without a terminal event."""
        return [request_id for request_id in self.requests if self.end(request_id) is None]

    def submit(self, request: Request) -> Request:
        """Raises `Refused`."""
        expected = expected_output(request, self.config.max_model_len)
        self.scheduler.submit(request, self.now)
        self.engine.expect(request)
        self.requests[request.request_id] = request
        self.expected[request.request_id] = expected
        self.outputs[request.request_id] = list(request.output)
        self.events[request.request_id] = []
        self.scheduler.check()
        return request

    def abort(self, request_id: str) -> list[Event]:
        events = self.scheduler.abort(request_id, self.now)
        self._take(events)
        self.scheduler.check()
        return events

    def plan(self) -> Step | None:
        step = self.scheduler.plan(self.now)
        if step is not None:
            self.flights.append(step)
            self._check_apart(step)
        self.scheduler.check()
        return step

    def commit(self, failing: Collection[str] = ()) -> list[Event]:
        step = self.flights.pop(0)
        del self.writes[0]
        result = self.engine.run(step, failing)
        self.now += 1.0
        events = self.scheduler.commit(step, result, self.now)
        self._take(events)
        self.scheduler.check()
        return events

    def step(self) -> Step | None:
        """Commit one step, with the next one planned before if the depth is 2."""
        if not self.flights:
            self.plan()
        step = self.flight
        if step is not None:
            if len(self.flights) < self.depth:
                self.plan()
            self.commit()
        return step

    def _check_apart(self, step: Step) -> None:
        """In all steps in flight each row has one sequence, each block one that writes to it, and
        what is loaded into a slot is not what another step uses there."""
        writes: dict[int, str] = {}
        for work in step.works:
            table = self.held.setdefault(work.row, [])
            if work.first:
                table.clear()
            table += work.new_blocks
            size = self.config.block_size
            end = work.start + len(work.tokens)
            for block in table[work.start // size : -(-end // size)]:
                assert writes.setdefault(block, work.request_id) == work.request_id
        for earlier in self.writes:
            assert all(earlier.get(block, name) == name for block, name in writes.items())
        self.writes.append(writes)
        rows = {(work.row, work.request_id) for each in self.flights for work in each.works}
        assert len(dict(rows)) == len(rows)
        for earlier_step in self.flights[:-1]:
            used = {work.slot for work in earlier_step.works}
            assert not used & {slot for slot, _ in step.slot_loads}

    def run(self, max_steps: int = 10_000) -> int:
        """Until nothing is left to do; how many steps that took."""
        for steps in range(max_steps + 1):
            if self.step() is None:
                assert not self.open
                assert not self.scheduler.has_work
                assert self.scheduler.stats().num_free_blocks == self.config.num_blocks
                return steps
        raise AssertionError(f"not done after {max_steps} steps")

    def end(self, request_id: str) -> Finished | Failed | None:
        events = self.events[request_id]
        last = events[-1] if events else None
        return last if isinstance(last, Finished | Failed) else None

    def _take(self, events: list[Event]) -> None:
        for event in events:
            history = self.events[event.request_id]
            assert self.end(event.request_id) is None, "an event after the terminal one"
            if isinstance(event, Scheduled):
                assert not history, "scheduled twice"
            elif isinstance(event, Token):
                self.outputs[event.request_id].append(event.token)
            elif isinstance(event, Finished):
                self._check_finish(event)
            history.append(event)

    def _check_finish(self, event: Finished) -> None:
        """The tokens told are the ones that an undisturbed run gives."""
        request = self.requests[event.request_id]
        output, expected = self.outputs[event.request_id], self.expected[event.request_id]
        assert output == list(request.output)
        preempted = [e for e in self.events[event.request_id] if isinstance(e, Preempted)]
        assert event.preemptions == len(preempted)
        if event.reason == "abort":
            assert output == expected[: len(output)]
            return
        assert output == expected
        stopped = output[-1] in request.stop_token_ids and len(output) >= request.min_tokens
        assert event.reason == ("stop" if stopped else "length")
        assert event.stop_token == (output[-1] if stopped else None)
