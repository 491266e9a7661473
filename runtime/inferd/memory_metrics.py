"""Metrics of memory: what the ledger says at each scrape, and who was put to sleep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferd.ledger import Ledger
from inferd.residency import Eviction


class MemoryMetrics(Collector):
    """`inferd_memory_…` and `inferd_evictions_total`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._evictions: Counter[tuple[str, str]] = Counter()

    def evicted(self, eviction: Eviction) -> None:
        """Count one."""
        self._evictions[eviction.owner, str(eviction.level)] += 1

    def collect(self) -> Iterator[Metric]:
        reserved: Counter[tuple[str, str, str]] = Counter()
        measured: Counter[tuple[str, str]] = Counter()
        budgets = GaugeMetricFamily(
            "inferd_memory_budget_bytes", "What models may take.", labels=("device",)
        )
        for view in self._ledger.snapshot().devices:
            budgets.add_metric((view.device,), view.budget)
            for each in view.holdings:
                measured[view.device, each.owner] += each.measured
                for part, count in each.parts.items():
                    reserved[view.device, each.owner, part] += count
        yield budgets
        yield _family(
            GaugeMetricFamily(
                "inferd_memory_bytes", "Reserved.", labels=("device", "owner", "part")
            ),
            reserved,
        )
        yield _family(
            GaugeMetricFamily(
                "inferd_memory_measured_bytes",
                "Measured by the system or the driver when it last changed.",
                labels=("device", "owner"),
            ),
            measured,
        )
        yield _family(
            CounterMetricFamily(
                "inferd_evictions",
                "Models put to sleep since others needed their memory.",
                labels=("model_name", "level"),
            ),
            self._evictions,
        )


def _family(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Any, int]) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family
