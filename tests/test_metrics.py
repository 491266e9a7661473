"""Metrics: the names and labels that load balancers read, and numbers that add up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from inferd.errors import EngineError, NotFound
from inferd.messages import Begun, EngineInfo, EngineStats
from inferd.metrics import Metrics, RequestMetrics
from tests.serving import ask, ids, serving

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Engine:
    """An engine that only counts."""

    state = "ready"

    def __init__(self, stats: EngineStats | Exception | None, max_adapters: int = 0) -> None:
        self._stats = stats
        self._max_adapters = max_adapters

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            *("echo", "E", "echo", 10, 64, 4, 64, 16, 100, "bfloat16", "cpu", 0, 0, 0.0),
            max_adapters=self._max_adapters,
        )

    async def stats(self) -> EngineStats:
        if self._stats is None:
            await asyncio.Event().wait()
        if isinstance(self._stats, Exception):
            raise self._stats
        assert self._stats is not None
        return self._stats


async def scrape(metrics: Metrics) -> Samples:
    """Every sample by name and labels."""
    text = (await metrics.render()).decode()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset({"model_name": "m", "engine": "0", **labels}.items())]


def ticking(*times: float) -> Iterator[float]:
    return iter(times)


STATS = EngineStats(
    running=3,
    waiting=2,
    kv_blocks_used=25,
    kv_blocks_total=100,
    preemptions=7,
    prefix_queries=50,
    prefix_hits=20,
    adapters_held=6,
    adapters_in_slots=4,
    adapter_loads=30,
    adapter_evictions=26,
)


async def test_an_engine_that_sleeps_takes_requests() -> None:
    metrics, engine = Metrics(), Engine(EngineStats(running=3))
    engine.state = "asleep"
    metrics.watch(lambda: [("m", engine)])
    samples = await scrape(metrics)
    assert value(samples, "inferd_engine_ready") == 1
    assert not [name for name, _ in samples if name == "vllm:num_requests_running"]


async def test_engine_gauges_are_read_at_the_scrape() -> None:
    metrics = Metrics()
    metrics.watch(lambda: [("m", Engine(STATS))])
    samples = await scrape(metrics)
    assert value(samples, "vllm:num_requests_running") == 3
    assert value(samples, "vllm:num_requests_waiting") == 2
    assert value(samples, "vllm:kv_cache_usage_perc") == 0.25
    assert value(samples, "vllm:num_preemptions_total") == 7
    assert value(samples, "vllm:prefix_cache_queries_total") == 50
    assert value(samples, "vllm:prefix_cache_hits_total") == 20
    assert value(samples, "inferd_adapters_held") == 6
    assert value(samples, "inferd_adapters_in_slots") == 4
    assert value(samples, "inferd_adapter_slot_loads_total") == 30
    assert value(samples, "inferd_adapter_slot_evictions_total") == 26
    assert value(samples, "inferd_engine_ready") == 1
    shape = {"block_size": "16", "num_gpu_blocks": "100", "cache_dtype": "bfloat16"}
    assert value(samples, "vllm:cache_config_info", **shape) == 1


@pytest.mark.parametrize("stats", [None, EngineError()])
async def test_an_engine_that_does_not_answer_is_left_out(
    stats: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferd.metrics._STATS_SECONDS", 0.01)
    metrics = Metrics()
    metrics.watch(lambda: [("m", Engine(stats)), ("other", Engine(STATS))])
    samples = await scrape(metrics)
    assert value(samples, "inferd_engine_ready") == 0
    assert value(samples, "inferd_engine_ready", model_name="other") == 1
    with pytest.raises(KeyError):
        value(samples, "vllm:num_requests_running")


async def test_a_request_adds_up() -> None:
    metrics = Metrics()
    times = ticking(10.5, 10.75, 11.0, 12.0)
    request = RequestMetrics(metrics, "m", lambda: next(times), began=10.0)
    request.accepted(100, 2, 64)
    request.tokens(0, 1)
    request.tokens(0, 2)
    request.tokens(1, 1)
    request.begun(0, Begun(queued_s=0.125, prefill_s=0.25))
    request.choice_done(0, "length", 3)
    request.choice_done(1, "stop", 1)
    request.done()
    samples = await scrape(metrics)
    assert value(samples, "vllm:prompt_tokens_total") == 100
    assert value(samples, "vllm:generation_tokens_total") == 4
    assert value(samples, "vllm:request_success_total", finished_reason="length") == 1
    assert value(samples, "vllm:request_success_total", finished_reason="stop") == 1
    for name, total, count in (
        ("time_to_first_token_seconds", 0.5 + 1.0, 2),
        ("inter_token_latency_seconds", 0.25, 1),
        ("e2e_request_latency_seconds", 2.0, 1),
        ("request_queue_time_seconds", 0.125, 1),
        ("request_prefill_time_seconds", 0.25, 1),
        ("request_decode_time_seconds", 0.25, 2),
        ("request_inference_time_seconds", 0.25 + 0.25, 2),
        ("request_time_per_output_token_seconds", 0.125, 1),
        ("request_params_n", 2, 1),
        ("request_params_max_tokens", 64, 1),
        ("request_prompt_tokens", 100, 1),
        ("request_generation_tokens", 4, 2),
    ):
        assert value(samples, f"vllm:{name}_sum") == total
        assert value(samples, f"vllm:{name}_count") == count


async def test_failures_are_counted_by_code() -> None:
    metrics = Metrics()
    for error in (NotFound("x"), NotFound("y"), EngineError(), RuntimeError()):
        metrics.failed(error)
    samples = await scrape(metrics)
    assert {
        dict(labels)["code"]: count
        for (name, labels), count in samples.items()
        if name == "inferd_request_errors_total"
    } == {"model_not_found": 2, "engine_error": 1, "internal_error": 1}


async def test_served_requests_show_up() -> None:
    prompt = ids("Hello world")
    async with serving() as setup:
        await setup.run(ask(prompt, n=2, max_tokens=5))
        text = (await setup.service.metrics.render()).decode()
    labels = 'engine="0",model_name="echo"'
    assert f"vllm:prompt_tokens_total{{{labels}}} {float(len(prompt))}" in text
    assert f"vllm:generation_tokens_total{{{labels}}} 10.0" in text
    success = 'vllm:request_success_total{engine="0",finished_reason="length",model_name="echo"}'
    assert f"{success} 2.0" in text
    assert f"vllm:num_requests_running{{{labels}}} 0.0" in text
    assert f"vllm:request_queue_time_seconds_count{{{labels}}} 2.0" in text


def test_nothing_is_registered_globally() -> None:
    Metrics()
    Metrics()
    assert not [m for m in REGISTRY.collect() if m.name.startswith(("vllm", "inferd"))]


class Adapter(NamedTuple):
    name: str
    base: str
    in_flight: int
    served: dict[str, int]


def loras(samples: Samples) -> tuple[str, str, str]:
    """What `vllm:lora_requests_info` says of model `m`: slots, running, waiting."""
    (labels,) = [dict(each) for name, each in samples if name == "vllm:lora_requests_info"]
    assert labels["model_name"] == "m"
    names = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
    slots, running, waiting = (labels[name] for name in names)
    return slots, running, waiting


async def test_adapters_wait_until_their_first_token_and_run_until_their_end() -> None:
    metrics = Metrics()
    metrics.watch(lambda: [("m", Engine(STATS, max_adapters=4))])
    one, two, bare = (
        RequestMetrics(metrics, "m", lambda: 1.0, 0.0, adapter=name) for name in ("a", "b", "")
    )
    other = RequestMetrics(metrics, "other", lambda: 1.0, 0.0, adapter="c")
    for request in (one, two, bare, other):
        request.accepted(1, 1, 1)
    assert loras(await scrape(metrics)) == ("4", "", "a,b")
    one.begun(0, Begun(queued_s=0.0, prefill_s=0.0))
    one.begun(1, Begun(queued_s=0.0, prefill_s=0.0))
    assert loras(await scrape(metrics)) == ("4", "a", "b")
    two.begun(0, Begun(queued_s=0.0, prefill_s=0.0))
    one.done()
    two.failed(EngineError())
    other.left("cancelled")
    assert loras(await scrape(metrics)) == ("4", "", "")


async def test_engines_without_slots_tell_of_no_adapters() -> None:
    metrics = Metrics()
    metrics.watch(lambda: [("m", Engine(STATS))])
    assert not [name for name, _ in await scrape(metrics) if name == "vllm:lora_requests_info"]


async def test_adapters_are_told_while_they_are_there() -> None:
    metrics = Metrics()
    adapters = [Adapter("a", "m", 2, {"abc": 5, "def": 7})]
    metrics.watch_adapters(lambda: adapters)
    samples = await scrape(metrics)
    told = {
        (name, dict(labels).get("generation"), count)
        for (name, labels), count in samples.items()
        if dict(labels).get("adapter") == "a"
    }
    assert told == {
        ("inferd_adapter_requests_in_flight", None, 2),
        ("inferd_adapter_requests_total", "abc", 5),
        ("inferd_adapter_requests_total", "def", 7),
    }
    adapters.clear()
    assert not [name for name, labels in await scrape(metrics) if "adapter" in dict(labels)]
