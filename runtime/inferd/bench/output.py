"""Results as people and as programs read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from inferd.bench.errors import BenchError
from inferd.bench.machine import environment
from inferd.bench.offline import Latency, Throughput
from inferd.bench.serving import Report
from inferd.bench.startup import Startup
from inferd.bench.statistics import Summary

NAMES = {
    "ttft": "TTFT (ms)",
    "ttft_scheduled": "TTFT from schedule (ms)",
    "tpot": "TPOT (ms)",
    "itl": "ITL (ms)",
    "e2el": "E2EL (ms)",
    "e2el_scheduled": "E2EL from schedule (ms)",
}

Row = tuple[str, str]


def save(path: Path, benchmark: str, config: Mapping[str, Any], results: Any, **more: Any) -> None:
    """Write everything as JSON. Raises BenchError."""
    record = {
        "benchmark": benchmark,
        "environment": environment(),
        "config": dict(config),
        **more,
        "results": results,
    }
    plain = msgspec.to_builtins(record, enc_hook=str)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write(path, text + "\n")


def write(path: Path, text: str) -> None:
    """Raises BenchError."""
    try:
        path.write_text(text)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror}") from error


def show_serving(
    console: Console, report: Report, metrics: Iterable[str], *, open_loop: bool
) -> None:
    """Print what `bench serve` found; `from schedule` only where a schedule was kept."""
    _show_rows(console, "Serving benchmark", _serving_rows(report))
    bases = set(metrics)
    latencies = {
        label: report.latencies[name]
        for name, label in NAMES.items()
        if name.partition("_")[0] in bases and (open_loop or "_" not in name)
    }
    _show_summaries(console, latencies, 1000)
    for kind, number in report.errors.items():
        console.print(f"[red]{number} failed[/]: {kind}: ", end="")
        console.print(report.error_messages[kind], markup=False, highlight=False)
    for warning in report.warnings:
        console.print("[yellow]Warning[/]: ", end="")
        console.print(warning, markup=False, highlight=False)


def _serving_rows(report: Report) -> Iterable[Row]:
    client = report.client
    yield "Successful requests", str(report.completed)
    yield "Failed requests", str(report.failed)
    yield "Benchmark duration (s)", f"{report.duration_s:.2f}"
    yield "Prompt tokens", f"{report.prompt_tokens} ({report.cached_tokens} from a prefix cache)"
    yield "Output tokens", str(report.output_tokens)
    yield "Most requests at once", str(report.max_running)
    yield "Request throughput (req/s)", f"{report.request_throughput:.2f}"
    if report.goodput is not None:
        yield "Request goodput (req/s)", f"{report.goodput:.2f}"
    yield "Output token throughput (tok/s)", f"{report.output_throughput:.2f}"
    yield "Total token throughput (tok/s)", f"{report.total_token_throughput:.2f}"
    share, rate = client.cpu_share, client.tokens_per_cpu_s
    yield "Client's processor", f"{share:.0%} of a core, {rate:.0f} tok/s of it"
    if client.late.count:
        p99 = dict(client.late.percentiles).get(99.0, client.late.max)
        yield "Client's lateness (ms)", f"P99 {1000 * p99:.2f}, max {1000 * client.late.max:.2f}"


def show_throughput(console: Console, found: Throughput) -> None:
    rows = [
        ("Requests", str(found.completed)),
        ("Duration (s)", f"{found.duration_s:.2f}"),
        ("Prompt tokens", f"{found.prompt_tokens} ({found.cached_tokens} from the prefix cache)"),
        ("Output tokens", str(found.output_tokens)),
        ("Request throughput (req/s)", f"{found.request_throughput:.2f}"),
        ("Output token throughput (tok/s)", f"{found.output_throughput:.2f}"),
        ("Total token throughput (tok/s)", f"{found.total_token_throughput:.2f}"),
    ]
    _show_rows(console, "Offline throughput", rows)
    _show_summaries(console, {"Step (ms)": found.step_s}, 1000)
    for kind, number in found.errors.items():
        console.print(f"[red]{number} failed[/]: {kind}: {found.error_messages[kind]}")


def show_latency(console: Console, found: Latency) -> None:
    times = {
        "Batch (ms)": found.latency_s,
        "Prefill (ms)": found.prefill_s,
        "Decode step (ms)": found.decode_step_s,
    }
    _show_summaries(console, times, 1000)
    rates = {"Prefill (tok/s)": found.prefill_throughput, "Decode (tok/s)": found.decode_throughput}
    _show_summaries(console, rates, 1)


def show_startup(console: Console, found: Startup) -> None:
    times = {
        **found.phases,
        "→ ready": found.ready_s,
        "→ first token": found.first_token_s,
    }
    _show_summaries(console, {f"{name} (s)": each for name, each in times.items()}, 1)
    cached = [start.page_cache for start in found.starts if start.page_cache is not None]
    if cached:
        shares = ", ".join(f"{share:.0%}" for share in cached)
        console.print(f"Weights in the page cache before each start: {shares}")


def _show_rows(console: Console, title: str, rows: Iterable[Row]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def _show_summaries(console: Console, summaries: Mapping[str, Summary], scale: float) -> None:
    """A line each; nothing of those that describe nothing."""
    filled = {name: each for name, each in summaries.items() if each.count}
    if not filled:
        return
    percents = [percent for percent, _ in next(iter(filled.values())).percentiles]
    table = Table()
    table.add_column("", no_wrap=True)
    for name in ("mean", *(f"P{percent:g}" for percent in percents), "max"):
        table.add_column(name, justify="right")
    for name, each in filled.items():
        values = (each.mean, *(value for _, value in each.percentiles), each.max)
        table.add_row(name, *(f"{scale * value:.2f}" for value in values))
    console.print(table)
