"""From a daemon's start to its first token, split by what it says on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from inferd.bench import page_cache
from inferd.bench.completions import Asked, Sender
from inferd.bench.daemon import DaemonProcess
from inferd.bench.errors import BenchError
from inferd.bench.serve import first_model
from inferd.bench.statistics import Summary, summarise
from inferd.bench.transport import Server, Transport
from inferd.bench.workload import Prompt

PHASES = ("daemon", "engine", "weights", "warm-up", "first token")
"""What takes the time, in order:

- daemon: its interpreter and imports, up to its first line of log;
- engine: the model's process: interpreter, imports, kernels (the first start compiles them),
  up to the first weights;
- weights: until all are loaded;
- warm-up: from there until the daemon is ready;
- first token: a request that asks for one.

A phase whose end the daemon does not tell is part of the next one.
"""

MARKS = {"engine": "Loading weights", "weights": "Warming up"}
"""What the daemon says when a phase has ended."""

_READY_S = 900.0


class Start(Struct, frozen=True):
    """One start, in seconds."""

    phases: dict[str, float]
    ready_s: float
    first_token_s: float
    page_cache: float | None  # the share of the weights in memory before it, where known


class Startup(Struct, frozen=True):
    """Several starts."""

    ready_s: Summary
    first_token_s: Summary
    phases: dict[str, Summary]
    starts: list[Start]


def measure(
    options: Sequence[str],
    weights: Sequence[Path],
    *,
    key: str,
    cold: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> Start:
    """One start of `inferd serve OPTIONS`.

    Args:
        weights: the model's files.
        key: to send; the daemon's own.
        cold: have the system forget them before.
    Raises:
        BenchError: it did not become ready, or gave no token.
    """
    if cold:
        page_cache.drop(weights)
    cached = page_cache.resident_fraction(weights)
    with DaemonProcess(options, clock=clock) as daemon:
        ready, url = daemon.wait_ready(_READY_S)
        first = asyncio.run(_first_token(url, key, clock))
        lines = list(daemon.lines)
    return Start(
        split(lines, daemon.began, ready, first),
        ready_s=ready - daemon.began,
        first_token_s=first - daemon.began,
        page_cache=cached,
    )


def split(
    lines: Iterable[tuple[float, str]], began: float, ready: float, first: float
) -> dict[str, float]:
    """Seconds by phase, in order, from what was written and when."""
    lines = list(lines)
    ends: dict[str, float | None] = {"daemon": min((at for at, _ in lines), default=None)}
    for phase, mark in MARKS.items():
        ends[phase] = next((at for at, line in lines if mark in line), None)
    ends |= {"warm-up": ready, "first token": first}
    phases, last = {}, began
    for phase in PHASES:
        if (end := ends[phase]) is not None:
            phases[phase], last = end - last, end
    return phases


def summary(starts: Sequence[Start]) -> Startup:
    """Over all `starts`; at least one."""
    phases: Mapping[str, list[float]] = {
        phase: [start.phases[phase] for start in starts if phase in start.phases]
        for phase in PHASES
    }
    return Startup(
        summarise(start.ready_s for start in starts),
        summarise(start.first_token_s for start in starts),
        {phase: summarise(values) for phase, values in phases.items() if values},
        list(starts),
    )


async def _first_token(url: str, key: str, clock: Callable[[], float]) -> float:
    """When the first token of a request came."""
    transport = Transport(Server.of(url), key, clock=clock)
    path = "/v1/completions"
    try:
        model = await first_model(transport, path, _READY_S)
        sender = Sender(transport, Asked(path, model), clock=clock, timeout=_READY_S)
        record = await sender.send(Prompt("once upon a time", output_len=4), 0, clock())
    finally:
        transport.close()
    if not record.ok:
        raise BenchError(f"no token came: {record.message}")
    return record.arrivals[0]
