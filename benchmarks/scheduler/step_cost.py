"""What one step costs: `plan` plus `commit` with 256 sequences running, in microseconds.

    python -m benchmarks.scheduler.step_cost

`decode`: all sequences decode for the whole time, and their blocks fill up at different steps.
`serving`: requests end and new ones come all the time, so steps also admit, prefill, look up
prefixes and release. `adapters`: the same with as many adapters as slots, and the bare model.
`decode+`, `serving+`: each step is planned while the one before is in flight.
The engine's part (making up the sampled tokens) is not measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import count
from random import Random
from statistics import median
from time import perf_counter_ns

from benchmarks.record import save
from inferd_scheduler import Request, Result, Scheduler, SchedulerConfig, Step

TARGET_US = 150.0
RUNNING = 256
ADAPTERS = 8
WARM_UP = 100  # steps
CODE = ("scheduler", "benchmarks/scheduler")
CONFIG = SchedulerConfig(
    max_batch_size=RUNNING,
    max_batch_tokens=2048,
    num_blocks=65536,
    block_size=16,
    max_model_len=8192,
)


def result_of(step: Step) -> Result:
    """Token ids that no request stops at, different in each step."""
    base = step.number * 1000 % 30000
    return Result([base + i if work.samples else None for i, work in enumerate(step.works)])


class Meter:
    """Measures a scheduler's steps; `ahead`: each is planned while the one before is in flight."""

    def __init__(self, scheduler: Scheduler, *, ahead: bool) -> None:
        self._scheduler = scheduler
        self._ahead = ahead
        self._flights: list[Step] = []

    def __call__(self) -> float:
        """One step: plan and commit, in microseconds."""
        if self._ahead and not self._flights:
            self._plan()
        start = perf_counter_ns()
        self._plan()
        planned = perf_counter_ns()
        step = self._flights.pop(0)
        result = result_of(step)
        sampled = perf_counter_ns()
        self._scheduler.commit(step, result, 0.0)
        return (perf_counter_ns() - sampled + planned - start) / 1000

    def _plan(self) -> None:
        step = self._scheduler.plan(0.0)
        if step is not None:
            self._flights.append(step)


def request(number: int, random: Random, max_tokens: int, adapters: int = 0) -> Request:
    prompt = [random.randrange(30000) for _ in range(random.randint(64, 512))]
    return Request(
        f"request-{number}",
        prompt,
        max_tokens,
        stop_token_ids=(40000, 40001),
        adapter=f"adapter-{which}" if (which := number % (adapters + 1)) else "",
    )


def decode(steps: int, *, ahead: bool = False) -> list[float]:
    """Plain decode: the batch does not change."""
    random = Random(0)
    scheduler = Scheduler(CONFIG)
    for number in range(RUNNING):
        scheduler.submit(request(number, random, 7000), 0.0)
    measure = Meter(scheduler, ahead=ahead)
    while scheduler.stats().num_waiting:
        measure()
    for _ in range(WARM_UP):
        measure()
    return [measure() for _ in range(steps)]


def serving(steps: int, adapters: int = 0, *, ahead: bool = False) -> list[float]:
    """The batch stays full, with something over one request ending per step."""
    random = Random(0)
    scheduler = Scheduler(replace(CONFIG, max_adapters=adapters))
    measure = Meter(scheduler, ahead=ahead)
    numbers = count()
    times: list[float] = []
    while len(times) < WARM_UP * 5 + steps:
        while scheduler.stats().num_waiting < 16:
            max_tokens = random.randint(50, 350)
            scheduler.submit(request(next(numbers), random, max_tokens, adapters), 0.0)
        times.append(measure())
    return times[WARM_UP * 5 :]


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median_us": round(median(ordered), 1),
        "mean_us": round(sum(ordered) / len(ordered), 1),
        "p10_us": round(ordered[len(ordered) // 10], 1),
        "p99_us": round(ordered[len(ordered) * 99 // 100], 1),
        "max_us": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="steps per case (default: 5000)")
    steps = parser.parse_args().steps
    cases = {
        "decode": summary(decode(steps)),
        "serving": summary(serving(steps)),
        "adapters": summary(serving(steps, ADAPTERS)),
        "decode+": summary(decode(steps, ahead=True)),
        "serving+": summary(serving(steps, ahead=True)),
    }
    print(f"{RUNNING} running sequences, {steps} steps; plan + commit, microseconds")
    for name, figures in cases.items():
        print(f"{name:8}", *(f"{key[:-3]} {value:7.1f}" for key, value in figures.items()))
    within = cases["decode"]["median_us"] <= TARGET_US
    print(f"target: a median of {TARGET_US:.0f} in decode:", "met" if within else "MISSED")
    record = {"running": RUNNING, "steps": steps, "target_us": TARGET_US, "cases": cases}
    print("written to", save("scheduler_step_cost", record, CODE))


if __name__ == "__main__":
    main()
