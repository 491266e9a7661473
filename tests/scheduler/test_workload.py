"""Workloads: reproducible, of the promised shape, and traces with clear errors."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from random import Random

import pytest

from inferd_scheduler.workload import (
    Arrival,
    burst_times,
    poisson_times,
    read_trace,
    synthetic,
    uniform_prompts,
    zipf_prompts,
)


def sample(seed: int) -> list[Arrival]:
    random = Random(seed)
    times, prompts = poisson_times(10, random), uniform_prompts(3, 9, random)
    return list(islice(synthetic(times, prompts, 2, 5, random, callers=3, priorities=2), 50))


def test_a_seed_gives_one_workload() -> None:
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_synthetic_arrivals_stay_in_their_ranges() -> None:
    arrivals = sample(1)
    assert {len(arrival.prompt) for arrival in arrivals} == set(range(3, 10))
    assert {arrival.output_tokens for arrival in arrivals} == {2, 3, 4, 5}
    assert {arrival.caller for arrival in arrivals} == {"caller-0", "caller-1", "caller-2"}
    assert {arrival.priority for arrival in arrivals} == {0, 1}


def test_each_adapter_and_the_bare_model_are_asked_for() -> None:
    random = Random(0)
    arrivals = synthetic(burst_times(1, 1), uniform_prompts(1, 2, random), 1, 2, random, adapters=2)
    shares = Counter(arrival.adapter for arrival in islice(arrivals, 3000))
    assert shares.keys() == {"", "adapter-1", "adapter-2"}
    assert [count / 3000 for count in shares.values()] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert {arrival.adapter for arrival in sample(1)} == {""}


def test_poisson_times_have_their_rate() -> None:
    times = list(islice(poisson_times(20, Random(0)), 4000))
    assert times == sorted(times)
    assert 4000 / times[-1] == pytest.approx(20, rel=0.05)


def test_bursts_come_at_once_and_periodically() -> None:
    assert list(islice(burst_times(2, 1.5), 5)) == [0.0, 0.0, 1.5, 1.5, 3.0]


def test_zipf_prompts_share_prefixes_in_proportion_to_their_rank() -> None:
    prompts = list(islice(zipf_prompts(4, 8, 1, 3, Random(0)), 5000))
    shares = sorted(Counter(prompt[:8] for prompt in prompts).values(), reverse=True)
    assert [share / 5000 for share in shares] == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.02)
    assert {len(prompt) for prompt in prompts} == {9, 10, 11}


def test_a_trace_gives_prompts_or_only_their_lengths() -> None:
    lines = [
        json.dumps({"time_s": 0.5, "prompt": [1, 2], "output_tokens": 3, "caller": "x"}),
        "",
        json.dumps({"time_s": 0.5, "prompt_tokens": 7, "output_tokens": 1, "priority": 2}),
    ]
    first, second = read_trace(lines, Random(0))
    assert first == Arrival(time_s=0.5, prompt=(1, 2), output_tokens=3, caller="x")
    assert (len(second.prompt), second.priority) == (7, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting"),
        ("[]", "not an object"),
        ('{"time_s": 1, "prompt_tokens": 3}', "output_tokens"),
        ('{"time_s": 1, "output_tokens": 3}', "one of prompt and prompt_tokens"),
        ('{"time_s": 1, "prompt_tokens": 3, "output_tokens": 3, "user": 1}', "user"),
        ('{"time_s": 0, "prompt_tokens": 3, "output_tokens": 3}', "goes back"),
    ],
)
def test_a_wrong_trace_line_is_named(line: str, said: str) -> None:
    good = '{"time_s": 1, "prompt_tokens": 3, "output_tokens": 3}'
    with pytest.raises(ValueError, match=f"^trace line 2: .*{said}"):
        list(read_trace([good, line], Random(0)))
