"""Runs the scheduler on a virtual clock with a cost model in place of an engine.

For capacity planning: the same code that serves decides here, so queueing, preemption and prefix
hits are the real ones; only the duration of a step is modelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from inferd_scheduler.config import SchedulerConfig
from inferd_scheduler.errors import Refused
from inferd_scheduler.events import Event, Failed, Finished, Token
from inferd_scheduler.request import Request
from inferd_scheduler.scheduler import Scheduler
from inferd_scheduler.step import Result, Step
from inferd_scheduler.workload import Arrival

ITL_RESOLUTION_S = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """A step's duration: linear in what it computes. Seconds. Fit it to a measured engine."""

    step_base_s: float  # launching a step; reading the weights once
    per_token_s: float  # computing one token
    per_sequence_s: float = 0.0  # sampling
    per_context_token_s: float = 0.0  # reading one position's KV
    per_slot_load_s: float = 0.0  # copying an adapter into its slot
    host_s: float = 0.0  # what the host does per step; beside the one before if planned ahead

    def duration(self, step: Step) -> float:
        cost = self.step_base_s + self.per_token_s * step.num_tokens
        if self.per_context_token_s:
            context = sum([work.start for work in step.works]) + step.num_tokens
            cost += self.per_context_token_s * context
        cost += self.per_slot_load_s * len(step.slot_loads)
        return cost + self.per_sequence_s * len(step.works)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to. Times in simulated seconds; percentiles by nearest rank, 0 if none."""

    steps: int
    simulated_s: float
    requests: int  # that arrived
    finished: int
    failed: int
    refused: int
    output_tokens: int
    output_tokens_per_s: float
    computed_tokens_per_s: float  # prefill and decode
    mean_batch: float  # sequences per step
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p95_s: float
    itl_p99_s: float
    preemptions: int
    prefix_hit_rate: float  # of the tokens that were looked up
    adapter_loads: int  # into slots


@dataclass(slots=True)
class _Open:
    """A request between its arrival and its end."""

    arrived: float
    last: float = -1.0  # its latest token; negative: none yet


class Simulator:
    """One run.

    Args:
        arrivals: in order of time; endless, perhaps, if `max_steps` is given.
        ahead: whether a step is planned while the one before is in flight.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        cost: CostModel,
        arrivals: Iterable[Arrival],
        *,
        ahead: bool = False,
    ) -> None:
        self.scheduler = Scheduler(config)
        self.now = 0.0
        self._cost = cost
        self._ahead = ahead
        self._planned: Step | None = None  # while another step was in flight
        self._arrivals: Iterator[Arrival] = iter(arrivals)
        self._next: Arrival | None = next(self._arrivals, None)
        self._open: dict[str, _Open] = {}
        self._counts: Counter[str] = Counter()
        self._ttfts: list[float] = []
        self._gaps: Counter[int] = Counter()  # in units of ITL_RESOLUTION_S
        self._sequences = 0  # summed over steps

    def run(self, max_steps: int | None = None) -> Report:
        """Until all is served, or for `max_steps` steps."""
        steps = 0
        while max_steps is None or steps < max_steps:
            self._submit_arrived()
            step, self._planned = self._planned, None
            host_s = 0.0 if step else self._cost.host_s
            step = step or self.scheduler.plan(self.now)
            if step is not None:
                steps += 1
                if self._ahead and steps != max_steps:
                    self._planned = self.scheduler.plan(self.now)
                self._execute(step, host_s)
            elif self._next is not None:
                self.now = self._next.time_s
            else:
                break
        return self._report()

    def _submit_arrived(self) -> None:
        while self._next is not None and self._next.time_s <= self.now:
            arrival, self._next = self._next, next(self._arrivals, None)
            self._counts["requests"] += 1
            request = Request(
                f"r{self._counts['requests']}",
                arrival.prompt,
                arrival.output_tokens,
                caller=arrival.caller,
                priority=arrival.priority,
                adapter=arrival.adapter,
            )
            try:
                self.scheduler.submit(request, self.now)
            except Refused:
                self._counts["refused"] += 1
            else:
                self._open[request.request_id] = _Open(arrival.time_s)

    def _execute(self, step: Step, host_s: float) -> None:
        """`host_s`: what the device waited for the host before."""
        device_s = self._cost.duration(step)
        self.now += host_s + max(device_s, self._cost.host_s if self._planned else 0.0)
        self._sequences += len(step.works)
        token = step.number % 2**31  # any: nobody stops at it, and no two steps are alike
        tokens = [token if work.samples else None for work in step.works]
        self._note(self.scheduler.commit(step, Result(tokens), self.now))

    def _note(self, events: list[Event]) -> None:
        now, opened, gaps = self.now, self._open, self._gaps
        for event in events:
            if type(event) is Token:
                request = opened[event.request_id]
                if request.last >= 0:
                    gaps[round((now - request.last) / ITL_RESOLUTION_S)] += 1
                else:
                    self._ttfts.append(now - request.arrived)
                request.last = now
            elif isinstance(event, Finished | Failed):
                del opened[event.request_id]
                self._counts["finished" if isinstance(event, Finished) else "failed"] += 1

    def _report(self) -> Report:
        stats = self.scheduler.stats()
        output_tokens = len(self._ttfts) + self._gaps.total()
        ttfts = sorted(self._ttfts)
        elapsed = self.now or 1.0
        return Report(
            steps=stats.total_steps,
            simulated_s=self.now,
            requests=self._counts["requests"],
            finished=self._counts["finished"],
            failed=self._counts["failed"],
            refused=self._counts["refused"],
            output_tokens=output_tokens,
            output_tokens_per_s=output_tokens / elapsed,
            computed_tokens_per_s=stats.total_tokens / elapsed,
            mean_batch=self._sequences / max(1, stats.total_steps),
            ttft_p50_s=percentile(ttfts, 50),
            ttft_p95_s=percentile(ttfts, 95),
            ttft_p99_s=percentile(ttfts, 99),
            itl_p50_s=counted_percentile(self._gaps, 50) * ITL_RESOLUTION_S,
            itl_p95_s=counted_percentile(self._gaps, 95) * ITL_RESOLUTION_S,
            itl_p99_s=counted_percentile(self._gaps, 99) * ITL_RESOLUTION_S,
            preemptions=stats.total_preemptions,
            prefix_hit_rate=stats.total_prefix_hits / max(1, stats.total_prefix_queries),
            adapter_loads=stats.total_adapter_loads,
        )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """By nearest rank, of sorted values; 0 if there are none."""
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else 0.0


def counted_percentile(counts: Counter[int], percent: int) -> int:
    """The same of values given by their counts."""
    left = -(-counts.total() * percent // 100)
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0
