"""Simulates serving under several loads and policies: a million steps in minutes.

    python -m benchmarks.scheduler.simulate [--steps 1000000] [--trace FILE.jsonl]

The cost model is that of an 8B model in bf16 on one accelerator of H100's class, in round numbers
(5 ms to read the weights, 25 µs per token computed, 2 ms to copy an adapter to its slot, 1 ms of
the host per step); it is an assumption, not a measurement. `ahead` cases plan a step while the one
before is in flight; what that costs is told as a ratio of CPU time per sequence and step.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

from benchmarks.record import save
from inferd_scheduler import SchedulerConfig
from inferd_scheduler.simulator import CostModel, Simulator
from inferd_scheduler.workload import (
    Arrival,
    burst_times,
    poisson_times,
    read_trace,
    synthetic,
    uniform_prompts,
    zipf_prompts,
)

COST = CostModel(
    step_base_s=5e-3,
    per_token_s=2.5e-5,
    per_sequence_s=5e-6,
    per_context_token_s=2e-9,
    per_slot_load_s=2e-3,
    host_s=1e-3,
)
CONFIG = SchedulerConfig(
    max_batch_size=128,
    max_batch_tokens=2048,
    num_blocks=16384,
    block_size=16,
    max_model_len=8192,
)
TIGHT = replace(CONFIG, num_blocks=1000)
CODE = ("scheduler", "benchmarks/scheduler")
COLUMNS = ("ttft_p50_s", "ttft_p99_s", "itl_p50_s", "itl_p99_s", "output_tokens_per_s")


def poisson(rate: float) -> Iterator[Arrival]:
    random = Random(1)
    prompts = uniform_prompts(64, 1024, random)
    return synthetic(poisson_times(rate, random), prompts, 32, 512, random, callers=8, priorities=3)


def shared(rate: float) -> Iterator[Arrival]:
    random = Random(2)
    prompts = zipf_prompts(200, 1024, 16, 256, random)
    return synthetic(poisson_times(rate, random), prompts, 32, 512, random, callers=8, priorities=3)


def bursts(size: int, period_s: float) -> Iterator[Arrival]:
    random = Random(3)
    prompts = uniform_prompts(64, 1024, random)
    return synthetic(burst_times(size, period_s), prompts, 32, 512, random, callers=8, priorities=3)


def adapted(rate: float, adapters: int) -> Iterator[Arrival]:
    random = Random(4)
    prompts = uniform_prompts(64, 1024, random)
    times = poisson_times(rate, random)
    return synthetic(times, prompts, 32, 512, random, callers=8, priorities=3, adapters=adapters)


AHEAD = ", ahead"


def cases() -> dict[str, tuple[SchedulerConfig, Iterator[Arrival]]]:
    """Those whose names end with `AHEAD` plan ahead."""
    return {
        "poisson 5/s": (CONFIG, poisson(5)),
        "poisson 15/s": (CONFIG, poisson(15)),
        "poisson 15/s, ahead": (CONFIG, poisson(15)),
        "zipf prefixes 15/s": (CONFIG, shared(15)),
        "the same, no prefix cache": (replace(CONFIG, prefix_cache=False), shared(15)),
        "bursts of 100 every 10 s": (CONFIG, bursts(100, 10)),
        "8 adapters, 8 slots, 10/s": (replace(CONFIG, max_adapters=8), adapted(10, 8)),
        "32 adapters, 8 slots, 10/s": (replace(CONFIG, max_adapters=8), adapted(10, 32)),
        "small pool, fcfs": (TIGHT, poisson(15)),
        "small pool, fcfs, ahead": (TIGHT, poisson(15)),
        "small pool, priority": (replace(TIGHT, policy="priority"), poisson(15)),
        "small pool, fair": (replace(TIGHT, policy="fair"), poisson(15)),
    }


def simulate(
    config: SchedulerConfig, arrivals: Iterator[Arrival], steps: int, *, ahead: bool
) -> dict[str, Any]:
    simulator = Simulator(config, COST, arrivals, ahead=ahead)
    start = process_time()
    report = asdict(simulator.run(steps))
    simulator.scheduler.check()
    return {**report, "cpu_s": process_time() - start}


def ahead_ratios(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """CPU time per sequence and step of those that plan ahead, over that of those that do not (who
    have more sequences in a step, since their steps take longer)."""
    cost = {
        name: each["cpu_s"] / each["steps"] / each["mean_batch"] for name, each in results.items()
    }
    return {name: cost[name + AHEAD] / cost[name] for name in cost if name + AHEAD in cost}


def show(name: str, figures: dict[str, Any]) -> None:
    cells = " ".join(f"{figures[column]:11.4f}" for column in COLUMNS)
    rest = f"{figures['preemptions']:8d} {figures['prefix_hit_rate']:6.1%}"
    rest += f" {figures['adapter_loads']:7d}"
    print(f"{name:26} {figures['mean_batch']:6.1f} {cells} {rest} {figures['cpu_s']:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="in all cases together")
    parser.add_argument("--trace", type=Path, help="JSON lines to run instead, to their end")
    options = parser.parse_args()
    loads, steps = cases(), options.steps // len(cases())
    if options.trace is not None:
        loads = {"trace": (CONFIG, read_trace(options.trace.open(), Random(0)))}
        steps = 10**12
    heads = " ".join(f"{column:>11.11}" for column in COLUMNS)
    print(f"{'case':26} {'batch':>6} {heads} {'preempt':>8} {'hits':>6} {'loads':>7} {'cpu s':>7}")
    results: dict[str, dict[str, Any]] = {}
    for name, (config, arrivals) in loads.items():
        results[name] = simulate(config, arrivals, steps, ahead=name.endswith(AHEAD))
        show(name, results[name])
    total = sum(figures["steps"] for figures in results.values())
    cpu_s = sum(figures["cpu_s"] for figures in results.values())
    print(f"{total} steps in {cpu_s:.1f} s of CPU time: {cpu_s / total * 1e6:.0f} µs per step")
    ratios = ahead_ratios(results)
    for name, ratio in ratios.items():
        print(f"CPU time per sequence and step, ahead over not: {ratio:.2f} ({name})")
    record = {"cost": asdict(COST), "steps": total, "cpu_s": cpu_s, "cases": results}
    record["ahead_cpu_ratio"] = ratios
    print("written to", save("scheduler_simulation", record, CODE))


if __name__ == "__main__":
    main()
