"""Prometheus metrics under the names that vLLM's users and load balancers know.

Names, labels and buckets follow vLLM's `v1/metrics/loggers.py` and the Gateway API's model server
protocol (kubernetes-sigs/gateway-api-inference-extension, proposal 003); `inferd_…` are our own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferd.errors import InferdError
from inferd.messages import Begun, EngineInfo, EngineStats
from inferd.tally import Tally as Minutes

_LABELS = ("model_name", "engine")
_ENGINE = "0"  # one replica per deployment
_STATS_SECONDS = 2.0  # an engine slower than this is left out of a scrape

_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_INTER_TOKEN = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)
_TOKENS = tuple(float(m * 10**e) for e in range(6) for m in (1, 2, 5))


class StatsSource(Protocol):
    """What metrics need to know of an engine."""

    @property
    def state(self) -> str: ...

    @property
    def info(self) -> EngineInfo: ...

    async def stats(self) -> EngineStats: ...


class AdapterSource(Protocol):
    """What metrics need to know of an adapter."""

    @property
    def name(self) -> str: ...

    @property
    def base(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def served(self) -> Mapping[str, int]: ...


Adapters = Callable[[], Iterable[AdapterSource]]
Engines = Callable[[], Iterable[tuple[str, StatsSource]]]
"""(model name, engine) of everything that is served now."""


class Metrics:
    """One registry of metrics; nothing global."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self, tally: Minutes | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        """`tally` counts along, minute by minute; `now` is Unix time in seconds."""
        registry = CollectorRegistry()
        self.tally = tally or Minutes()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", text, _LABELS, registry=registry, buckets=buckets)

        self.prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens accepted.", *_LABELS)
        self.generation_tokens = counter("vllm:generation_tokens", "Tokens generated.", *_LABELS)
        self.success = counter(
            "vllm:request_success", "Choices that ended well.", *_LABELS, "finished_reason"
        )
        self.cancelled = counter(
            "inferd_requests_cancelled", "Requests left before their end.", "model_name", "reason"
        )
        self.errors = counter(
            "inferd_request_errors", "Requests that the service refused or that failed.", "code"
        )
        self.ttft = histogram("time_to_first_token_seconds", "To the first token.", _FIRST_TOKEN)
        self.itl = histogram("inter_token_latency_seconds", "Between tokens.", _INTER_TOKEN)
        self.e2e = histogram("e2e_request_latency_seconds", "Whole requests.", _LATENCY)
        self.queue = histogram("request_queue_time_seconds", "Waiting for a slot.", _LATENCY)
        self.prefill = histogram("request_prefill_time_seconds", "Reading the prompt.", _LATENCY)
        self.decode = histogram("request_decode_time_seconds", "First to last token.", _LATENCY)
        self.inference = histogram(
            "request_inference_time_seconds", "Reading the prompt to the last token.", _LATENCY
        )
        self.per_token = histogram(
            "request_time_per_output_token_seconds", "A choice's mean between tokens.", _INTER_TOKEN
        )
        self.prompt_size = histogram("request_prompt_tokens", "Prompt tokens.", _TOKENS)
        self.output_size = histogram("request_generation_tokens", "Output tokens.", _TOKENS)
        self.asked_choices = histogram("request_params_n", "Choices asked for.", _CHOICES)
        self.asked_tokens = histogram(
            "request_params_max_tokens", "Output tokens allowed.", _TOKENS
        )
        self.by_adapter = AdapterRequests()
        self._registry = registry
        self._snapshot = _Snapshot(self.by_adapter, now)
        registry.register(self._snapshot)
        self._engines: Engines = tuple
        self._adapters: Adapters = tuple

    def add(self, collector: Collector) -> None:
        """Tell at every scrape what `collector` has."""
        self._registry.register(collector)

    def watch(self, engines: Engines) -> None:
        """Read the gauges of these engines at every scrape."""
        self._engines = engines

    def watch_adapters(self, adapters: Adapters) -> None:
        """Tell of these adapters at every scrape."""
        self._adapters = adapters

    def failed(self, error: BaseException) -> None:
        """Count a request that was refused or that failed."""
        code = (error.code or error.type) if isinstance(error, InferdError) else "internal_error"
        self.errors.labels(code).inc()

    async def render(self) -> bytes:
        """All metrics in the text exposition format; engine gauges are read now."""
        readings = [_read(name, engine) for name, engine in self._engines()]
        self._snapshot.readings = await asyncio.gather(*readings)
        self._snapshot.adapters = list(self._adapters())
        return generate_latest(self._registry)


class AdapterRequests:
    """How many requests of each adapter, by (model, adapter), wait for a first token and run."""

    def __init__(self) -> None:
        self.waiting: Tally[tuple[str, str]] = Tally()
        self.running: Tally[tuple[str, str]] = Tally()

    def names(self, tally: Tally[tuple[str, str]], model: str) -> str:
        """The adapters of `model` that `tally` counts, as vLLM writes them."""
        return ",".join(sorted(adapter for of, adapter in +tally if of == model))


class RequestMetrics:
    """What one accepted request contributes, told as it happens.

    Args:
        adapter: its name; empty: the bare model.
        clock: seconds, monotonic.
        began: when the request came, by `clock`.
    """

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        clock: Callable[[], float],
        began: float,
        adapter: str = "",
    ) -> None:
        self._metrics = metrics
        self._model = model
        self._adapter = (model, adapter) if adapter else None
        self._counted: Tally[tuple[str, str]] | None = None
        self._labels = (model, _ENGINE)
        self._clock = clock
        self._began = began
        self._prefill: dict[int, float] = {}  # choice → how long its prompt was read
        self._first: dict[int, float] = {}  # choice → when its first token came
        self._last: dict[int, float] = {}  # choice → when its newest token came
        # Bound once, since `labels` would cost more than all else that happens to a token.
        self._generated = metrics.generation_tokens.labels(*self._labels)
        self._itl = metrics.itl.labels(*self._labels)

    @property
    def elapsed(self) -> float:
        """Seconds since the request came."""
        return self._clock() - self._began

    def accepted(self, prompt_tokens: int, choices: int, max_tokens: int) -> None:
        minute = self._metrics.tally.of(self._model)
        minute.requests += 1
        minute.prompt_tokens += prompt_tokens
        self._metrics.prompt_tokens.labels(*self._labels).inc(prompt_tokens)
        self._metrics.asked_choices.labels(*self._labels).observe(choices)
        self._metrics.asked_tokens.labels(*self._labels).observe(max_tokens)
        self._metrics.prompt_size.labels(*self._labels).observe(prompt_tokens)
        self._count(self._metrics.by_adapter.waiting)

    def tokens(self, index: int, count: int) -> None:
        """`count` new tokens of one choice came together."""
        now = self._clock()
        last = self._last.get(index)
        self._last[index] = now
        self._generated.inc(count)
        if last is None:
            self._first[index] = now
            self._metrics.ttft.labels(*self._labels).observe(now - self._began)
        else:
            self._itl.observe(now - last)

    def begun(self, index: int, begun: Begun) -> None:
        """The engine's own account of how a choice came to its first token."""
        self._prefill[index] = begun.prefill_s
        self._count(self._metrics.by_adapter.running)
        self._metrics.queue.labels(*self._labels).observe(begun.queued_s)
        self._metrics.prefill.labels(*self._labels).observe(begun.prefill_s)

    def choice_done(self, index: int, reason: str, completion_tokens: int) -> None:
        if index in self._first:
            self._decoded(index, self._last[index] - self._first[index], completion_tokens)
        self._metrics.tally.of(self._model).completion_tokens += completion_tokens
        self._metrics.success.labels(*self._labels, reason).inc()
        self._metrics.output_size.labels(*self._labels).observe(completion_tokens)

    def _decoded(self, index: int, seconds: float, completion_tokens: int) -> None:
        metrics, labels = self._metrics, self._labels
        metrics.decode.labels(*labels).observe(seconds)
        metrics.inference.labels(*labels).observe(self._prefill.get(index, 0.0) + seconds)
        if completion_tokens > 1:
            metrics.per_token.labels(*labels).observe(seconds / (completion_tokens - 1))

    def done(self) -> None:
        """The request ran to its end."""
        self._count(None)
        self._metrics.e2e.labels(*self._labels).observe(self.elapsed)

    def failed(self, error: BaseException) -> None:
        self._count(None)
        self._metrics.tally.of(self._model).errors += 1
        self._metrics.failed(error)

    def left(self, reason: str) -> None:
        """The request was left before its end."""
        self._count(None)
        self._metrics.cancelled.labels(self._model, reason).inc()

    def _count(self, tally: Tally[tuple[str, str]] | None) -> None:
        """Be counted in `tally` alone; None: nowhere."""
        if self._adapter is None or tally is self._counted:
            return
        if self._counted is not None:
            self._counted[self._adapter] -= 1
            if not self._counted[self._adapter]:
                del self._counted[self._adapter]
        if tally is not None:
            tally[self._adapter] += 1
        self._counted = tally


class _Reading:
    """One engine's state at one moment; `stats` is None if it did not answer."""

    def __init__(
        self, model: str, *, ready: bool, info: EngineInfo | None, stats: EngineStats | None
    ) -> None:
        self.labels = (model, _ENGINE)
        self.ready = ready
        self.info = info
        self.stats = stats


async def _read(model: str, engine: StatsSource) -> _Reading:
    if engine.state != "ready":  # one that sleeps takes requests, and wakes for them
        return _Reading(model, ready=engine.state == "asleep", info=None, stats=None)
    try:
        stats = await asyncio.wait_for(engine.stats(), _STATS_SECONDS)
        return _Reading(model, ready=True, info=engine.info, stats=stats)
    except (InferdError, TimeoutError):
        return _Reading(model, ready=False, info=None, stats=None)


_GAUGES: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("vllm:num_requests_running", "Sequences in the batch.", lambda s: s.running),
    ("vllm:num_requests_waiting", "Sequences waiting for a slot.", lambda s: s.waiting),
    (
        "vllm:kv_cache_usage_perc",
        "KV blocks in use; 1 is all.",
        lambda s: s.kv_blocks_used / s.kv_blocks_total if s.kv_blocks_total else 0.0,
    ),
    ("inferd_adapters_held", "Adapters that the engine holds.", lambda s: s.adapters_held),
    ("inferd_adapters_in_slots", "Adapters on the device.", lambda s: s.adapters_in_slots),
)
_COUNTERS: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("vllm:num_preemptions", "Sequences that were set back.", lambda s: s.preemptions),
    ("vllm:prefix_cache_queries", "Prompt tokens looked up.", lambda s: s.prefix_queries),
    ("vllm:prefix_cache_hits", "Prompt tokens found.", lambda s: s.prefix_hits),
    ("inferd_adapter_slot_loads", "Adapters moved into slots.", lambda s: s.adapter_loads),
    ("inferd_adapter_slot_evictions", "Moved out of slots.", lambda s: s.adapter_evictions),
)
_CACHE_LABELS = ("block_size", "num_gpu_blocks", "cache_dtype")
_LORA_LABELS = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")


class _Snapshot(Collector):
    """The newest readings, as metrics."""

    def __init__(self, by_adapter: AdapterRequests, now: Callable[[], float]) -> None:
        self.readings: list[_Reading] = []
        self.adapters: list[AdapterSource] = []
        self._by_adapter = by_adapter
        self._now = now

    def collect(self) -> Iterator[Metric]:
        answered = [(r.labels, r.stats) for r in self.readings if r.stats is not None]
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=_LABELS)
            for labels, stats in answered:
                gauge.add_metric(labels, value(stats))
            yield gauge
        for name, text, value in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for labels, stats in answered:
                counter.add_metric(labels, value(stats))
            yield counter
        yield self._cache_info()
        yield self._lora_info()
        yield from self._adapter_requests()
        ready = GaugeMetricFamily("inferd_engine_ready", "1: takes requests.", labels=_LABELS)
        for reading in self.readings:
            ready.add_metric(reading.labels, float(reading.ready))
        yield ready

    def _cache_info(self) -> Metric:
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "The KV cache.", labels=(*_LABELS, *_CACHE_LABELS)
        )
        for reading in self.readings:
            if (info := reading.info) is not None:
                shape = (str(info.block_size), str(info.num_blocks), info.dtype)
                family.add_metric((*reading.labels, *shape), 1.0)
        return family

    def _lora_info(self) -> Metric:
        """As load balancers read it; the value is the time, so that they find the newest."""
        family = GaugeMetricFamily(
            "vllm:lora_requests_info", "Adapters in use.", labels=(*_LABELS, *_LORA_LABELS)
        )
        traffic = self._by_adapter
        for reading in self.readings:
            if (info := reading.info) is not None and info.max_adapters:
                model = reading.labels[0]
                running = traffic.names(traffic.running, model)
                waiting = traffic.names(traffic.waiting, model)
                labels = (*reading.labels, str(info.max_adapters), running, waiting)
                family.add_metric(labels, self._now())
        return family

    def _adapter_requests(self) -> Iterator[Metric]:
        labels = ("model_name", "adapter")
        running = GaugeMetricFamily(
            "inferd_adapter_requests_in_flight", "Requests that use it.", labels=labels
        )
        served = CounterMetricFamily(
            "inferd_adapter_requests", "Requests served.", labels=(*labels, "generation")
        )
        for adapter in self.adapters:
            running.add_metric((adapter.base, adapter.name), adapter.in_flight)
            for generation, count in adapter.served.items():
                served.add_metric((adapter.base, adapter.name, generation), count)
        yield running
        yield served
