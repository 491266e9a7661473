"""The simulator: its clock and figures on workloads small enough to compute by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from inferd_scheduler import SchedulerConfig, Step, Work
from inferd_scheduler.simulator import CostModel, Report, Simulator, counted_percentile, percentile
from inferd_scheduler.workload import Arrival, poisson_times, synthetic, zipf_prompts

CONFIG = SchedulerConfig(
    max_batch_size=4, max_batch_tokens=8, num_blocks=16, block_size=4, max_model_len=32
)
SECOND = CostModel(step_base_s=1.0, per_token_s=0.0)


def arrival(time_s: float, prompt: int, output: int) -> Arrival:
    return Arrival(time_s=time_s, prompt=tuple(range(prompt)), output_tokens=output)


def test_the_cost_is_linear_in_what_a_step_computes() -> None:
    cost = CostModel(
        step_base_s=1000,
        per_token_s=100,
        per_sequence_s=10,
        per_context_token_s=1,
        per_slot_load_s=0.5,
    )
    works = [Work("a", 0, 5, (1,), (), True, False), Work("b", 1, 0, (1, 2), (0,), True, True)]
    assert cost.duration(Step(1, works, 3)) == 1000 + 300 + 20 + 8
    assert cost.duration(Step(1, works, 3, (), ((0, "x"),))) == 1000 + 300 + 20 + 8 + 0.5


def test_one_request_by_hand() -> None:
    report = Simulator(CONFIG, SECOND, [arrival(10.0, 12, 3)]).run()
    assert report.steps == 4  # two chunks, two more tokens
    assert report.simulated_s == 14.0
    assert report.ttft_p50_s == 2.0
    assert report.itl_p99_s == pytest.approx(1.0)
    assert report.output_tokens == 3
    assert (report.requests, report.finished, report.failed, report.refused) == (1, 1, 0, 0)


def test_a_request_waits_for_its_arrival_and_for_the_step_in_flight() -> None:
    report = Simulator(CONFIG, SECOND, [arrival(0.0, 4, 5), arrival(0.5, 4, 1)]).run()
    assert report.ttft_p99_s == 1.5  # planned at 1.0, done at 2.0
    assert report.steps == 5


def test_a_host_ahead_is_hidden_behind_the_device() -> None:
    """Five steps; the last is planned when the one before is done, since nothing is left ahead."""
    cost = replace(SECOND, host_s=0.25)
    asked = [arrival(0.0, 4, 5)]
    assert Simulator(CONFIG, cost, asked).run().simulated_s == 5 * 1.25
    assert Simulator(CONFIG, cost, asked, ahead=True).run().simulated_s == 5 + 0.25
    slow = replace(SECOND, host_s=3.0)  # the device waits for the host
    assert Simulator(CONFIG, slow, asked, ahead=True).run().simulated_s == 3 + 4 * 3 + 1


def test_planning_ahead_changes_no_answer() -> None:
    def report(*, ahead: bool) -> Report:
        random = Random(5)
        prompts = zipf_prompts(3, 8, 1, 9, random)
        arrivals = synthetic(poisson_times(0.5, random), prompts, 1, 12, random)
        return Simulator(CONFIG, SECOND, islice(arrivals, 300), ahead=ahead).run()

    plain, ahead = report(ahead=False), report(ahead=True)
    assert (ahead.finished, ahead.output_tokens) == (plain.finished, plain.output_tokens)
    assert ahead.finished == 300


def test_refusals_and_failures_are_counted() -> None:
    small = SchedulerConfig(
        max_batch_size=1, max_batch_tokens=8, num_blocks=2, block_size=4, max_model_len=32
    )
    report = Simulator(small, SECOND, [arrival(0, 20, 1), arrival(0, 6, 9), arrival(0, 1, 1)]).run()
    assert (report.requests, report.refused, report.failed, report.finished) == (3, 1, 1, 1)


def test_an_endless_workload_is_cut_and_comes_out_the_same_again() -> None:
    def report() -> Report:
        random = Random(5)
        prompts = zipf_prompts(3, 8, 1, 9, random)
        arrivals = synthetic(poisson_times(0.5, random), prompts, 1, 12, random)
        return Simulator(CONFIG, SECOND, arrivals).run(max_steps=500)

    first = report()
    assert first == report()
    assert first.steps == 500


def test_shared_prefixes_show_in_the_hit_rate() -> None:
    random = Random(5)
    arrivals = synthetic(
        poisson_times(0.2, random), zipf_prompts(1, 16, 4, 4, random), 1, 4, random
    )
    report = Simulator(CONFIG, SECOND, islice(arrivals, 40)).run()
    assert report.finished == 40
    assert report.prefix_hit_rate > 0.7  # 16 of 20 tokens, but for the first


def test_adapters_in_turn_are_loaded_once_each_and_all_are_served() -> None:
    config = replace(CONFIG, max_adapters=1, adapter_turn=0)
    turns = [replace(arrival(i / 10, 4, 3), adapter="xy"[i % 2]) for i in range(8)]
    report = Simulator(config, SECOND, turns).run()
    assert report.finished == 8
    assert report.adapter_loads == 8  # by arrival: whoever comes between closes the slot
    config = replace(config, adapter_turn=50)
    assert Simulator(config, SECOND, turns).run().adapter_loads == 2
    together = [replace(a, adapter="xy"[i // 4]) for i, a in enumerate(turns)]
    assert Simulator(config, SECOND, together).run().adapter_loads == 2


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 2), (75, 3), (76, 9), (100, 9)])
def test_percentiles_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile([1, 2, 3, 9], percent) == value
    assert counted_percentile(Counter([1, 2, 3, 9]), percent) == value


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentile([], 50) == 0
    assert counted_percentile(Counter(), 50) == 0
