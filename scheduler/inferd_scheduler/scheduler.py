"""The scheduler: which sequences advance by how many tokens in the next step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import cast

from inferd_scheduler.batch import Batch
from inferd_scheduler.cache import KVCache
from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.errors import Refused
from inferd_scheduler.events import Event, Failed, Finished, FinishReason, Token
from inferd_scheduler.flight import Flight
from inferd_scheduler.intake import check_request
from inferd_scheduler.planner import Planner, make
from inferd_scheduler.queue import WaitingQueue
from inferd_scheduler.request import Move, Request, State
from inferd_scheduler.slots import AdapterSlots
from inferd_scheduler.stats import Stats
from inferd_scheduler.step import UNKNOWN, Result, Step, Work


class Scheduler:
    """Continuous batching over a paged KV cache. Times are seconds on any one clock.

    The order of calls: `plan` then `commit` of the same step; `submit` and `abort` at any moment.
    How a step is put together is in `planner`.

    While a step is in flight the next one may be planned, which the engine may begin as soon as the
    first has sampled; they are committed in order, and there are never more than two. The second
    has `UNKNOWN` in place of the ids that the first samples. It holds sequences that a stop token
    in the first ends, or that fail there; what comes of these in the second is ignored, but they
    keep their rows, blocks and slots until it is committed. Preemption waits until no step is in
    flight.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self._cache = KVCache(config.num_blocks, config.block_size, reuse=config.prefix_cache)
        self._batch = Batch(config.max_batch_size)
        self._queue = WaitingQueue(config.policy)
        self._slots = AdapterSlots(config.max_adapters, config.adapter_turn)
        self._planner = Planner(config, self._cache, self._batch, self._queue, self._slots)
        self._requests: dict[str, Request] = {}  # all that wait or run
        self._flights: list[Flight] = []  # at most two, in order
        self._departed: list[tuple[int, Request]] = []
        """Ended in flight, with the number of the last step in which the engine writes their KV."""
        self._arrivals = 0
        self._steps = 0
        self._tokens = 0

    def submit(self, request: Request, now: float) -> None:
        """Accept a new request. Raises `Refused`, and then nothing has changed."""
        if request.request_id in self._requests:
            raise Refused("invalid", f"request_id: {request.request_id!r} is in use")
        check_request(request, self.config)
        self._check_load(request)
        request.arrival = self._arrivals
        request.submitted = now
        request.limit = min(request.num_prompt + request.max_tokens, self.config.max_model_len)
        request.move(Move.SUBMIT)
        self._arrivals += 1
        self._requests[request.request_id] = request
        self._queue.push(request)

    def abort(self, request_id: str, now: float) -> list[Event]:
        """End a request now: its `Finished`, or nothing if the id is unknown (it just ended)."""
        request = self._requests.get(request_id)
        if request is None:
            return []
        if request.state is State.WAITING:
            self._queue.remove(request)
            del self._requests[request_id]
            request.move(Move.ABORT)
        else:
            self._end(request, Move.ABORT)
        events = self._planner.events
        told = [event for event in events if event.request_id == request_id]
        self._planner.events = [event for event in events if event.request_id != request_id]
        return [*told, _finished(request, "abort")]

    def plan(self, now: float) -> Step | None:
        """The next step; None if nothing can run, which means that nothing waits either.

        While a step is in flight, None says that it has to be committed first.
        """
        ahead = bool(self._flights)
        assert len(self._flights) < 2, "two steps are in flight"
        flight = self._planner.plan(self._steps + 1, now, ahead=ahead)
        if flight is None:
            assert ahead or not self._requests, "requests wait, but none can run"
            return None
        self._flights.append(flight)
        self._steps += 1
        self._tokens += flight.step.num_tokens
        return flight.step

    def commit(self, step: Step, result: Result, now: float) -> list[Event]:
        """Take in what the engine computed for the first step in flight; events in order of cause.

        What became of requests that have ended meanwhile may be missing in `result`.
        """
        assert self._flights, "no step is in flight"
        flight = self._flights[0]
        assert flight.step is step, "this step is not the first in flight"
        assert len(result.tokens) == len(step.works), "not one token entry per work"
        del self._flights[0]
        events, self._planner.events = self._planner.events, []
        disturbed = bool(self._departed or result.failed)
        self._settle_departed(step.number)
        self._fail(flight, result, events)
        split = len(flight.decoding)
        decoding, sampled = flight.decoding, cast("Sequence[int]", result.tokens[:split])
        if disturbed:
            pairs = zip(decoding, sampled, strict=True)
            left = [(r, token) for r, token in pairs if r.state is State.RUNNING]
            decoding, sampled = [r for r, _ in left], [token for _, token in left]
        self._commit_decoding(decoding, sampled, events)
        for request, work, token in zip(
            flight.others, step.works[split:], result.tokens[split:], strict=True
        ):
            if request.state is State.RUNNING:
                self._commit_filling(request, work, token, step.number, events)
        for request in self._batch.due(step.number):
            self._cache.fill(request)
            self._decide(request, step.number, events)
        for request in self._flights[0].grown if self._flights else ():
            if request.state is State.RUNNING:  # it was decided when that step was planned
                self._cache.fill(request)
                self._queue.charge_output(request)
        return events

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        running, flights = list(self._batch), self._flights
        departed = [request for _, request in self._departed]
        self._queue.check()
        self._batch.check(self._steps - len(flights), departed)
        self._cache.check([*running, *departed], unknown=min(1, len(departed) + len(flights) // 2))
        self._slots.check([*running, *departed])
        assert {number for number, _ in self._departed} <= {f.step.number for f in flights}
        works = [(r, w) for f in flights for r, w in zip(f, f.step.works, strict=True)]
        for request in self._batch.filling.values():
            assert request.ahead == sum(
                len(work.tokens) for r, work in works if r is request and work.tokens != (UNKNOWN,)
            )
        assert len(self._requests) == len(self._queue) + len(running)
        for request_id, request in self._requests.items():
            assert request.request_id == request_id
            assert 0 <= request.computed < request.total < request.limit
            assert request.total <= self.config.pool_tokens
            if request.state is State.WAITING:
                assert request in self._queue
                assert request.row == request.slot == -1
                assert not request.block_table
                assert not request.computed
            else:
                assert request.state is State.RUNNING

    def stats(self) -> Stats:
        """A snapshot for metrics."""
        return Stats(
            num_waiting=len(self._queue),
            num_waiting_tokens=self._queue.num_tokens,
            num_running=len(self._batch),
            num_blocks=self.config.num_blocks,
            num_free_blocks=self._cache.pool.num_free,
            num_cached_blocks=len(self._cache.prefixes),
            total_steps=self._steps,
            total_tokens=self._tokens,
            total_preemptions=self._planner.preemptions,
            total_prefix_queries=self._cache.queried_tokens,
            total_prefix_hits=self._cache.hit_tokens,
            num_adapters=len(self._slots.resident),
            total_adapter_loads=self._slots.loads,
            total_adapter_evictions=self._slots.evictions,
        )

    @property
    def adapter_slots(self) -> dict[str, int]:
        """Adapter → slot, of all that are in slots. A copy."""
        return self._slots.resident

    def forget_adapter(self, adapter: str) -> bool:
        """Empty the adapter's slot; False, and nothing changes, while requests run with it, or a
        step in flight does.

        True also if it has none. Requests that wait for it would load it again.
        """
        return self._slots.forget(adapter)

    def forget_all(self) -> None:
        """The memory behind blocks and slots is gone: nothing of it is found again. Only while
        nothing waits or runs; counts go on."""
        assert not self._requests, "requests wait or run"
        assert not self._flights, "a step is in flight"
        self._cache.forget()
        for adapter in self._slots.resident:
            self._slots.forget(adapter)

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs, that is, whether `plan` would return a step if none were
        in flight."""
        return bool(self._requests)

    def _check_load(self, request: Request) -> None:
        """Raise `Refused` if the queue is full. An empty queue takes a request of any length.

        Requests for which a row is free wait for the next step only, so they do not count.
        """
        queue, config = self._queue, self.config
        free_rows = config.max_batch_size - len(self._batch)
        if len(queue) >= config.max_queue_requests + free_rows:
            raise Refused("overloaded", f"{len(queue)} requests are waiting")
        if len(queue) and queue.num_tokens + request.total > config.max_queue_tokens:
            raise Refused("overloaded", f"{queue.num_tokens} tokens are waiting")

    def _commit_decoding(
        self, decoding: list[Request], sampled: Sequence[int], events: list[Event]
    ) -> None:
        """The hot loop: one sampled token for each sequence in decode."""
        stopped = []
        for request, token in zip(decoding, sampled, strict=True):
            request.tokens.append(token)
            if token in request.stop_token_ids:
                stopped.append(request)
        named = zip([request.request_id for request in decoding], sampled, strict=True)
        events.extend(map(make, repeat(Token), named))
        for request in stopped:
            if request.stopped:  # and not before min_tokens
                events.append(self._finish(request, "stop"))

    def _commit_filling(
        self, request: Request, work: Work, token: int | None, number: int, events: list[Event]
    ) -> None:
        """A chunk; if it was the last one, the sequence decodes from now on."""
        request.pending -= len(work.tokens)
        request.ahead -= len(work.tokens)
        self._cache.fill(request)
        if work.samples:
            assert token is not None, f"no token for {request}"
            request.tokens.append(token)
            request.pending = 1
            events.append(Token(request.request_id, token))
            self._batch.decode(request)
            if request.stopped:
                events.append(self._finish(request, "stop"))
            else:
                self._decide(request, number, events)

    def _decide(self, request: Request, number: int, events: list[Event]) -> None:
        """What becomes of a decoding sequence that step `number` did not stop."""
        total = len(request.tokens)
        self._queue.charge_output(request)
        if total >= request.limit:
            events.append(self._finish(request, "length"))
        elif total > self.config.pool_tokens:
            self._end(request, Move.FAIL)
            message = f"{total} tokens outgrew the KV cache of {self.config.pool_tokens}"
            events.append(Failed(request.request_id, "capacity", message))
        elif request.due:
            pass  # the step behind it is planned already, and this with it
        elif room := self._cache.room(request):
            self._batch.watch(request, number + min(room, request.limit - total))
        else:
            self._batch.hungry.append(request)

    def _fail(self, flight: Flight, result: Result, events: list[Event]) -> None:
        """Eject the sequences whose computation failed; their KV is not to be trusted."""
        failed = result.failed
        for request in flight if failed else ():
            if request.request_id in failed and request.state is State.RUNNING:
                self._cache.distrust(request)
                self._end(request, Move.FAIL)
                events.append(Failed(request.request_id, "engine", failed[request.request_id]))

    def _finish(self, request: Request, reason: FinishReason) -> Finished:
        self._cache.fill(request)
        self._end(request, Move.FINISH)
        return _finished(request, reason)

    def _end(self, request: Request, move: Move) -> None:
        """Take a running request out. What it holds stays taken while a step in flight has it."""
        self._queue.charge_output(request)
        self._batch.remove(request)
        del self._requests[request.request_id]
        request.move(move)
        last = next((f.step.number for f in reversed(self._flights) if request in f), 0)
        if last:
            self._departed.append((last, request))
        else:
            self._planner.let_go(request)

    def _settle_departed(self, number: int) -> None:
        """Step `number` was the last that had some of them."""
        for last, request in self._departed:
            if last == number:
                self._planner.let_go(request)
        self._departed = [each for each in self._departed if each[0] != number]


def _finished(request: Request, reason: FinishReason) -> Finished:
    return Finished(
        request.request_id,
        reason,
        request.tokens[-1] if reason == "stop" else None,
        max(0, request.cached_tokens),
        request.preemptions,
    )
